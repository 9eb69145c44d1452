"""Redaction that holds up nobody: what is quickly done at once, the rest in a process that is ended at its limit.

Redaction is linear, but it holds the interpreter: a megabyte of the worst text takes it most of a second. What can't be redacted
in time is `Unredactable`: feedback is refused; a chat is answered all the same, and its turn is kept without its
texts, so that it counts and nothing is learned from it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import msgspec
import structlog
from msgspec.structs import replace

from deploy.gateway import metrics
from deploy.gateway.redaction_processes import RedactionProcesses, Unredactable
from feedback.clock import Clock
from feedback.content import UNREDACTABLE, is_unredactable
from feedback.intake.contract import MAX_EVENT_BYTES
from feedback.intake.edge import Edge, parts_of
from feedback.privacy.personal_data import TooMuchWork
from feedback.records import Message, Rating, Turn

AT_ONCE_US = 5_000
"""Work of so many microseconds is done in the loop; it is less than another reply notices."""
FITTING_BYTES = 2 * MAX_EVENT_BYTES
_MOST_BYTES, _FRAME_BYTES = 6, 100
"""Of a character in JSON, and of a message around its text (roles are short)."""

log = structlog.get_logger()
Event = TypeVar("Event", bound=Turn | Rating)


class Redaction:
    """`edge`'s redaction, for a gateway's loop. Close it when no more is to come."""

    def __init__(self, edge: Edge, clock: Clock, processes: RedactionProcesses | None = None) -> None:
        self.edge = edge
        self._processes = RedactionProcesses(clock) if processes is None else processes

    async def event(self, event: Event) -> Event:
        """The turn or rating without personal data, hashed and stamped. Raises Unredactable."""
        try:
            return self.edge.redacted(event, AT_ONCE_US)
        except TooMuchWork:
            return self.edge.stamped(event, await self._away(parts_of(event)))

    async def reply(self, reply: str | Message, locale: str | None = None) -> str | Message:
        """A reply without personal data. Raises Unredactable."""
        try:
            return self.edge.reply(reply, AT_ONCE_US, locale)
        except TooMuchWork:
            plain: str | Message = (await self._away({"reply": reply, "locale": locale}))["reply"]
            return plain

    async def asked(self, turn: Turn) -> Turn:
        """A turn that begins, as it is kept: redacted, or without its texts. It should be `fitting`: what can't be kept costs too."""
        try:
            return await self.event(turn)
        except Unredactable as why:
            return self._bare(turn, why)

    async def told(self, kept: Turn, reply: str | Message) -> Turn:
        """The turn that `asked` made, with its reply as it is kept."""
        if is_unredactable(kept):
            return kept
        try:
            return replace(kept, reply=await self.reply(reply, kept.locale))
        except Unredactable as why:
            self._count(why)
            return without_texts(kept)

    async def close(self) -> None:
        """End the processes; what is asked from now on and not done at once is Unredactable."""
        await self._processes.close()

    async def _away(self, parts: dict[str, Any]) -> dict[str, Any]:
        try:
            content = msgspec.msgpack.encode(parts)
        except (OverflowError, UnicodeEncodeError):
            raise Unredactable("it holds a number or a text that can't be kept") from None
        redacted: dict[str, Any] = msgspec.msgpack.decode(await self._processes.redacted(content))
        return redacted

    def _bare(self, turn: Turn, why: Unredactable) -> Turn:
        self._count(why)
        return self.edge.redacted(without_texts(turn))

    def _count(self, why: Unredactable) -> None:
        metrics.TURNS_UNREDACTABLE.inc()
        log.warning("turn_unredactable", why=str(why))


def without_texts(turn: Turn) -> Turn:
    """The turn as it counts where its texts could not be redacted: nothing that a person wrote is in it."""
    return replace(turn, messages=[], reply="", tags={}, extra={UNREDACTABLE: True})


def fitting(turn: Turn) -> Turn:
    """The turn without the oldest messages where they are far more than an event may have; `truncated` counts them.

    To be asked before it is redacted: nobody should work on nine megabytes of which none is kept. What is a little too much
    may become small enough.
    """
    if surely_fit(turn.messages, FITTING_BYTES):
        return turn
    kept = newest(turn.messages, FITTING_BYTES)
    lost = len(turn.messages) - len(kept)
    return replace(turn, messages=kept, truncated=turn.truncated + lost) if lost else turn


def surely_fit(messages: Sequence[Message], room: int) -> bool:
    """Whether plain messages have at most `room` bytes as JSON, told by their characters: without writing it."""
    for message in messages:
        content = message.get("content")
        if len(message) != 2 or not isinstance(content, str):
            return False
        room -= _MOST_BYTES * len(content) + _FRAME_BYTES
    return room >= 0


def newest(messages: Sequence[Message], room: int) -> list[Message]:
    """The last messages that have at most `room` bytes as JSON; may be none."""
    kept = len(messages)
    for message in reversed(messages):
        text = message.get("content")
        if type(text) is str and len(text) > room:
            break
        room -= len(msgspec.json.encode(message)) + 1
        if room < 0:
            break
        kept -= 1
    return list(messages[kept:])
