"""Sending to the embedded log from asyncio: many senders, one fsync for all that wait."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

from feedback.intake.edge import Record
from streams.sqlite.group_commit import GroupCommit
from streams.sqlite.log import SqliteLog


class SqliteProducer:
    """Many senders, one fsync for all that wait."""

    def __init__(self, log: SqliteLog) -> None:
        self._commits = GroupCommit[Sequence[Record]](lambda jobs: log.append(chain.from_iterable(jobs)))

    async def send(self, records: Sequence[Record]) -> None:
        """Append records; several calls at once share a transaction."""
        await self._commits.do(records)

    async def close(self) -> None:
        """Write what is waiting, then let go."""
        await self._commits.close()
