"""A turn without its texts: all that the rules of pairing look at, however long the texts are."""

from __future__ import annotations

import sys

import msgspec
import xxhash
from msgspec import Struct

from feedback.content import prompt_of, text_of, untrainable
from feedback.records import Origin, Split, Turn, TurnKey
from feedback.splits import split_of

_encode = msgspec.json.Encoder(order="deterministic").encode


class Outline(Struct, frozen=True, kw_only=True):
    """Texts are there as digests: equal where the texts are."""

    tenant: str
    event_id: str
    conversation_id: str
    turn_id: str
    occurred_at_us: int
    policy: str
    split: Split
    locale: str | None
    user_id: str | None
    origin: Origin
    replaces: str | None
    untrainable: str | None
    """Why nothing may be learned from it, as a reason code; None where it may."""
    context: bytes
    """What it answers: the plain text, or all that was sent where that is not just text."""
    reply: bytes
    """The reply without space around it."""

    @property
    def key(self) -> TurnKey:
        """What names the turn."""
        return self.tenant, self.conversation_id, self.turn_id


def outline(turn: Turn) -> Outline:
    """The outline of a turn."""
    plain = prompt_of(turn.messages)
    return Outline(
        tenant=sys.intern(turn.tenant),
        event_id=turn.event_id,
        conversation_id=turn.conversation_id,
        turn_id=turn.turn_id,
        occurred_at_us=turn.occurred_at_us,
        policy=sys.intern(turn.policy),
        split=split_of(turn.bucket),
        locale=None if turn.locale is None else sys.intern(turn.locale),
        user_id=turn.user_id,
        origin=turn.origin,
        replaces=turn.replaces,
        untrainable=untrainable(turn),
        context=_digest(_encode(turn.messages if plain is None else plain)),
        reply=text_digest(text_of(turn.reply) or ""),
    )


def text_digest(text: str) -> bytes:
    """The digest of a reply, or of what should have been one."""
    return _digest(text.strip().encode())


def _digest(content: bytes) -> bytes:
    return xxhash.xxh3_128_digest(content)
