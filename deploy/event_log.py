"""The gateway's way onto the log: events become signed records there, and are durable when this says so."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import msgspec
import structlog

from feedback.contract import MAX_EVENT_BYTES, Rejected
from feedback.edge import Edge, Record
from streams.log import Producer

TIMEOUT_S = 10.0

log = structlog.get_logger()


class EventLog:
    """Sends what `edge` made of events through `producer`."""

    def __init__(self, edge: Edge, producer: Producer, timeout_s: float = TIMEOUT_S) -> None:
        self.edge = edge
        self._producer, self._timeout_s = producer, timeout_s
        self._sending: set[asyncio.Task[None]] = set()

    async def send(self, records: Sequence[Record]) -> bool:
        """Whether they are durable; False (logged) when they may not be. Cancelling the caller does not stop it."""
        task = asyncio.create_task(self._producer.send(records))
        self._sending.add(task)
        task.add_done_callback(self._done)
        done, _ = await asyncio.wait([task], timeout=self._timeout_s)
        if not done:
            log.error("events_not_logged", records=len(records), error=f"no answer within {self._timeout_s:g} s")
        return bool(done) and task.exception() is None

    async def send_turn(self, document: dict[str, Any], now_us: int) -> bool:
        """Log one turn, without its oldest messages where it would be too big. False when it may not be durable."""
        record = await asyncio.to_thread(turn_record, self.edge, document, now_us)
        if isinstance(record, Rejected):
            log.error("turn_not_logged", code=record.code, field=record.field)
            return False
        return await self.send([record])

    def _done(self, task: asyncio.Task[None]) -> None:
        self._sending.discard(task)
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
