"""A turn without its texts: all that the rules of pairing look at, however long the texts are."""

from __future__ import annotations

import sys

import msgspec
import xxhash
from msgspec import Struct

from feedback.content import CUT_REASONS, question_of, text_of, untrainable
from feedback.records import Origin, Split, Turn, TurnKey
from feedback.splits import split_of
from feedback.texts import normal_form

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
    """What it answers, whenever it was asked (`question_of`); all that was sent where that is not just text."""
    reply: bytes
    """The reply's normal form: equal where replies differ in nothing that is to be seen."""

    @property
    def cut(self) -> bool:
        """Whether the reply was cut, by length or a filter: it may be unwanted, and never wanted."""
        return self.untrainable in CUT_REASONS

    @property
    def key(self) -> TurnKey:
        """What names the turn."""
        return self.tenant, self.conversation_id, self.turn_id


def outline(turn: Turn) -> Outline:
    """The outline of a turn."""
    question = question_of(turn.messages)
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
        context=_digest(_encode(turn.messages if question is None else question)),
        reply=text_digest(text_of(turn.reply) or ""),
    )


def text_digest(text: str) -> bytes:
    """The digest of a reply, or of what should have been one: of its normal form."""
    return _digest(normal_form(text).encode("utf-8", "replace"))


def _digest(content: bytes) -> bytes:
    return xxhash.xxh3_128_digest(content)
