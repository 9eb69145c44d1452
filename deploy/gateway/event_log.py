"""The gateway's way onto the log: events become signed records, and are durable in the spool when this says so."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from typing import Any, Protocol

import msgspec
import structlog

from feedback.clock import Clock
from feedback.intake.contract import MAX_EVENT_BYTES, Rejected
from feedback.intake.edge import Edge, Record

TIMEOUT_S = 10.0

log = structlog.get_logger()


class Outbox(Protocol):
    """`deploy.gateway.spool.Spool`, as far as it is needed here."""

    @property
    def full(self) -> bool: ...

    async def hold(self, name: str, record: Record) -> None: ...

    async def send(self, records: Sequence[Record], releases: str | None = None) -> None: ...


class EventLog:
    """Puts what `edge` made of events into the spool."""

    def __init__(self, edge: Edge, spool: Outbox, clock: Clock, timeout_s: float = TIMEOUT_S) -> None:
        self.edge, self._clock = edge, clock
        self._spool, self._timeout_s = spool, timeout_s
        self._writing: set[asyncio.Future[None]] = set()

    @property
    def full(self) -> bool:
        """Whether nothing more can be logged now."""
        return self._spool.full

    async def send(self, records: Sequence[Record]) -> bool:
        """Whether they are durable; False (logged) when they may not be. Cancelling the caller does not stop it."""
        return await self._durable(self._spool.send(records), len(records))

    async def begin_turn(self, document: dict[str, Any], now_us: int) -> bool:
        """Keep a turn that begins, as it is logged should this process die before `end_turn`."""
        record = await asyncio.to_thread(turn_record, self.edge, document, now_us)
        if isinstance(record, Rejected):
            return False
        return await self._durable(self._spool.hold(document["turn_id"], record))

    async def end_turn(self, document: dict[str, Any], now_us: int) -> bool:
        """Log one turn, without its oldest messages where it would be too big. False when it may not be durable."""
        record = await asyncio.to_thread(turn_record, self.edge, document, now_us)
        if isinstance(record, Rejected):
            log.error("turn_not_logged", code=record.code, field=record.field)
            return False
        return await self._durable(self._spool.send([record], releases=document["turn_id"]))

    async def _durable(self, writing: Awaitable[None], records: int = 1) -> bool:
        task = asyncio.ensure_future(writing)
        self._writing.add(task)
        task.add_done_callback(self._done)
        try:
            async with self._clock.timeout(self._timeout_s):
                await asyncio.wait([task])
        except TimeoutError:
            log.error("events_not_logged", records=records, error=f"no answer within {self._timeout_s:g} s")
            return False
        return task.exception() is None

    def _done(self, task: asyncio.Future[None]) -> None:
        self._writing.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("events_not_logged", error=f"{type(error).__name__}: {error}"[:300])


def turn_record(edge: Edge, document: dict[str, Any], now_us: int) -> Record | Rejected:
    """The record of a turn; one that the broker would not take loses its oldest messages and says how many."""
    room, whole = MAX_EVENT_BYTES, len(document["messages"])
    record = edge.record_of(document, now_us)
    while isinstance(record, Record) and len(record.value) > MAX_EVENT_BYTES and document["messages"]:
        room //= 2
        kept = newest(document["messages"], room)
        document = document | {"messages": kept, "truncated": whole - len(kept)}
        record = edge.record_of(document, now_us)
    return record


def newest(messages: Sequence[dict[str, Any]], room: int) -> list[dict[str, Any]]:
    """The last messages that have at most `room` bytes as JSON; may be none."""
    kept, used = 0, 0
    for message in reversed(messages):
        used += len(msgspec.json.encode(message)) + 1
        if used > room:
            break
        kept += 1
    return list(messages[len(messages) - kept :])
