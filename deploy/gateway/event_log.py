"""The gateway's way onto the log: events become signed records, and are durable in the spool when this says so."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Sequence
from typing import Any, Protocol

import msgspec
import structlog
from msgspec import Struct
from msgspec.structs import replace

from deploy.gateway.redaction import Redaction, fitting, newest, without_texts
from feedback.clock import Clock
from feedback.intake.contract import MAX_EVENT_BYTES
from feedback.intake.edge import Edge, Record, encoded
from feedback.records import Message, Outcome, Turn

TIMEOUT_S = 10.0
TOLD_EVERY_S = 10.0
"""How often it is told that nothing can be logged: a full disk would be filled with saying so."""

log = structlog.get_logger()


class Outbox(Protocol):
    """`deploy.gateway.spool.Spool`, as far as it is needed here."""

    @property
    def full(self) -> bool: ...

    async def hold(self, name: str, record: Record) -> None: ...

    async def send(self, records: Sequence[Record], releases: str | None = None) -> None: ...


class OpenTurn(Struct, frozen=True):
    """A turn that has begun, as it was asked and as it is kept (`messages`: these, encoded).

    `held`: should this process die, it is logged.
    """

    asked: Turn
    kept: Turn
    messages: msgspec.Raw
    held: bool

    def record(self, edge: Edge, turn: Turn) -> Record:
        """The record of this turn as it is now."""
        messages = self.messages if turn.messages is self.kept.messages else encoded(turn.messages)
        return turn_record(edge, turn, messages, self.asked.messages)


class Ended(Struct, frozen=True):
    """How a reply ended; an answer of several choices has one for each."""

    turn_id: str
    reply: str | Message
    outcome: Outcome
    finish_reason: str | None
    usage: dict[str, Any]
    extra: dict[str, Any]


class EventLog:
    """Puts what `redaction` made of events into the spool."""

    def __init__(self, spool: Outbox, clock: Clock, redaction: Redaction, timeout_s: float = TIMEOUT_S) -> None:
        self.edge, self._clock, self._redaction = redaction.edge, clock, redaction
        self._spool, self._timeout_s = spool, timeout_s
        self._untold, self._told_s = 0, -math.inf

    @property
    def full(self) -> bool:
        """Whether nothing more can be logged now."""
        return self._spool.full

    async def send(self, records: Sequence[Record]) -> bool:
        """Whether they are durable; False (logged) when they may not be. Cancelling the caller does not stop it."""
        return await self._durable(self._spool.send(records), len(records))

    async def begin_turn(self, turn: Turn, *, hold: bool) -> OpenTurn:
        """A turn without personal data; with `hold` it is kept, as it is logged should this process die before `end_turn`."""
        asked = fitting(turn)
        kept = await self._redaction.asked(asked)
        begun = OpenTurn(asked, kept, encoded(kept.messages), held=False)
        if hold:
            held = await self._durable(self._spool.hold(turn.turn_id, begun.record(self.edge, kept)))
            begun = replace(begun, held=held)
        return begun

    async def end_turn(self, turn: OpenTurn, ended: Sequence[Ended]) -> bool:
        """Log a turn's replies, without its oldest messages where it would be too big. False when they may not be durable."""
        records = [await self._record(turn, one) for one in ended]
        releases = turn.asked.turn_id if turn.held else None
        return await self._durable(self._spool.send(records, releases=releases), len(records))

    async def _record(self, turn: OpenTurn, ended: Ended) -> Record:
        told = await self._redaction.told(turn.kept, ended.reply)
        told = replace(
            told,
            event_id=ended.turn_id,
            turn_id=ended.turn_id,
            outcome=ended.outcome,
            finish_reason=ended.finish_reason,
            usage=ended.usage,
            extra=told.extra | ended.extra,
        )
        return turn.record(self.edge, told)

    async def _durable(self, writing: Awaitable[None], records: int = 1) -> bool:
        try:
            async with self._clock.timeout(self._timeout_s):
                await writing
        except TimeoutError:
            self._tell(records, f"no answer within {self._timeout_s:g} s")
            return False
        except Exception as error:
            self._tell(records, f"{type(error).__name__}: {error}"[:300])
            return False
        return True

    def _tell(self, records: int, error: str) -> None:
        """Now and then, with how many it were since."""
        self._untold += records
        if self._clock.monotonic_s() - self._told_s >= TOLD_EVERY_S:
            log.error("events_not_logged", records=self._untold, error=error)
            self._untold, self._told_s = 0, self._clock.monotonic_s()


def turn_record(edge: Edge, turn: Turn, messages: msgspec.Raw, asked: Sequence[Message]) -> Record:
    """The record of a redacted turn; one that the broker would not take loses its oldest messages and says how many.

    One whose reply alone is too big is kept without its texts. `messages`: its own, encoded. `asked`: its messages as they were sent, by which it is measured what may stay.
    """
    room, whole = MAX_EVENT_BYTES, len(asked)
    record, left = edge.signed(turn, messages), whole
    while len(record.value) > MAX_EVENT_BYTES and left:
        room //= 2
        left = len(newest(asked, room))
        record = edge.signed(
            replace(turn, messages=turn.messages[whole - left :], truncated=turn.truncated + whole - left)
        )
    if len(record.value) > MAX_EVENT_BYTES:
        log.warning("turn_too_big", bytes=len(record.value), kept="without its texts")
        record = edge.signed(without_texts(turn))
    return record
