"""The nouns of Trimtab: what happened (turn, rating, verdict) and what is learned from it (pair, label, demonstration).

Every record is frozen. Times are integer microseconds since the epoch, UTC, and say so in their name. A `user_id` here
is always the keyed hash that the edge made, never the id that the chat app sent. What flows by the thousand says `gc=False`:
it can't be part of a cycle, so the collector need not look at it.
"""

from __future__ import annotations

from typing import Any, Literal

from msgspec import Struct

Source = Literal["user", "expert", "judge", "system", "reward_model"]
BY_PEOPLE: frozenset[Source] = frozenset({"user", "expert"})
RatingKind = Literal["thumbs", "stars", "pick", "edit", "comment", "signal", "score"]
Outcome = Literal["ok", "error", "aborted", "filtered"]
Split = Literal["train", "calibrate", "gate"]
Signal = Literal["regenerate", "copy", "abandon", "escalate", "rephrase"]

Origin = Literal["gateway", "label", "ingest", "file", "feedback"]
"""By which way an event came in, stamped at the edge: a chat that this gateway served; a key that may label; a topic or a key
that ingests; a file that was replayed or imported; whoever was shown a reply."""
RANKS: dict[Origin, int] = {"gateway": 3, "label": 2, "ingest": 1, "file": 1, "feedback": 0}
"""Of several payloads under one id those of the highest rank count: who may say little can't say it in another's name."""

TurnKey = tuple[str, str, str]
"""(tenant, conversation_id, turn_id): what names a turn everywhere; many senders count the turns of each conversation."""

RATED_BY = frozenset({"thumbs", "stars", "pick", "edit"})
"""A turn without a live rating of these kinds is unrated, and a question for the judge."""

Message = dict[str, Any]
"""One OpenAI chat message, verbatim: `role`, `content` and whatever else it carried."""


class Pick(Struct, frozen=True, forbid_unknown_fields=True):
    """The rated turn was picked over another reply to the same context (`tie`: neither was better)."""

    over: str
    tie: bool = False


class Score(Struct, frozen=True, forbid_unknown_fields=True):
    """What another system knows, for example `{"name": "csat", "value": 0.8}`; `value` is within 0..1."""

    name: str
    value: float


RatingValue = bool | int | str | Pick | Score | None
"""By kind: thumbs bool, stars int 1-5, pick Pick, edit and comment str, signal Signal, score Score; None retracts."""


class Turn(Struct, frozen=True, gc=False, kw_only=True, tag_field="event", tag="turn", omit_defaults=True):
    """One reply that was served, with the context that it answers."""

    tenant: str
    event_id: str
    conversation_id: str
    turn_id: str
    occurred_at_us: int
    messages: list[Message]
    reply: str | Message
    policy: str
    user_id: str | None = None
    locale: str | None = None
    tags: dict[str, str] = {}
    replaces: str | None = None
    outcome: Outcome = "ok"
    finish_reason: str | None = None
    usage: dict[str, Any] | None = None
    """As the engine counts, and `latency_ms`."""
    train: bool = True
    truncated: int = 0
    base: str | None = None
    rollout: dict[str, Any] | None = None
    bucket: int = 0
    """0-99, from the raw user id (the conversation where there is none): decides the split, for ever."""
    extra: dict[str, Any] = {}
    origin: Origin = "ingest"

    @property
    def key(self) -> TurnKey:
        """What names it."""
        return self.tenant, self.conversation_id, self.turn_id


class Rating(Struct, frozen=True, gc=False, kw_only=True, tag_field="event", tag="rating", omit_defaults=True):
    """One thing that someone said of a reply, or (`turn_id` None) of a whole conversation."""

    tenant: str
    event_id: str
    conversation_id: str
    occurred_at_us: int
    source: Literal["user", "expert", "system"]
    kind: RatingKind
    value: Any
    """A RatingValue; `contract.typed_value` makes it one by kind."""
    turn_id: str | None = None
    rubric: str | None = None
    user_id: str | None = None
    locale: str | None = None
    tags: dict[str, str] = {}
    bucket: int = 0
    extra: dict[str, Any] = {}
    origin: Origin = "ingest"

    @property
    def key(self) -> TurnKey | None:
        """What names the turn that it is of; None where it is of a whole conversation."""
        return None if self.turn_id is None else (self.tenant, self.conversation_id, self.turn_id)


class JudgeRequest(Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """A question for the judge: score `reply`, or compare it with `other_reply` to the same context.

    Where `edit` is given, `reply` is what somebody made of the reply of the turn, and that is `other_reply`.
    """

    request_id: str
    tenant: str
    conversation_id: str
    turn_id: str
    messages: list[Message]
    reply: str
    locale: str | None = None
    other_turn_id: str | None = None
    other_reply: str | None = None
    edit: str | None = None
    """`digests.edit_digest` of both texts."""


class Verdict(Struct, frozen=True, kw_only=True, tag_field="event", tag="verdict", omit_defaults=True):
    """The judge's answer to one JudgeRequest.

    A single reply has `score` (0..1) and one value per rubric item; a comparison has `preference`, the probability
    (0..1) that `turn_id` is better than `other_turn_id`, averaged over both orders, and `order_gap`, by how much the
    two orders disagreed (0..1). One about an edit has the `edit` of its question, and `preference` is the probability that the
    edit is better than the reply that was served, from one order.
    """

    verdict_id: str
    request_id: str
    tenant: str
    conversation_id: str
    turn_id: str
    occurred_at_us: int
    model: str
    rubric: str
    prompt_hash: str
    confidence: float
    rationale: str
    other_turn_id: str | None = None
    score: float | None = None
    items: dict[str, float] = {}
    preference: float | None = None
    order_gap: float | None = None
    edit: str | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost_usd: float = 0.0


class Unjudged(Struct, frozen=True, kw_only=True, tag_field="event", tag="unjudged", omit_defaults=True):
    """The judge was asked, or would have been, and there is no verdict, because `reason`."""

    verdict_id: str
    request_id: str
    tenant: str
    conversation_id: str
    turn_id: str
    occurred_at_us: int
    reason: str
    detail: str = ""
    other_turn_id: str | None = None
    edit: str | None = None
    model: str | None = None
    rubric: str | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost_usd: float = 0.0


Judgement = Verdict | Unjudged


class Provenance(Struct, frozen=True, kw_only=True):
    """Where a label came from, so that it can explain itself."""

    source: Source
    event_ids: tuple[str, ...]
    """The events that it was computed from, sorted."""
    at_us: int
    rater: str | None = None
    """Hashed rater id, or the judge's model name. Never part of the dataset hash."""
    rubric: str | None = None
    prompt_hash: str | None = None
    confidence: float | None = None
    superseded: tuple[str, ...] = ()
    """Events that spoke on the same question and gave way to this label's source."""


class PreferencePair(Struct, frozen=True, kw_only=True):
    """Of two replies to one prompt, `chosen` is preferred with probability `preference` (0.5..1)."""

    id: str
    prompt: list[Message]
    chosen: str
    rejected: str
    how: Literal["pick", "edit", "verdict", "regenerate", "reward_model"]
    preference: float
    weight: float
    split: Split
    tenant: str
    conversation_id: str
    turn_id: str
    locale: str | None
    provenance: Provenance
    rejected_ended: bool = True
    """False: it was cut, so that its end is none to learn of."""


class UnpairedLabel(Struct, frozen=True, kw_only=True):
    """One reply is wanted with probability `desirable` (0..1)."""

    id: str
    prompt: list[Message]
    reply: str
    kind: Literal["thumbs", "stars", "signal", "verdict"]
    desirable: float
    weight: float
    split: Split
    tenant: str
    conversation_id: str
    turn_id: str
    locale: str | None
    provenance: Provenance
    ended: bool = True
    """False: it was cut, so that its end is none to learn of; it is unwanted then."""


class Demonstration(Struct, frozen=True, kw_only=True):
    """A reply that somebody trusted wrote: to be imitated."""

    id: str
    prompt: list[Message]
    reply: str
    weight: float
    split: Split
    tenant: str
    conversation_id: str
    turn_id: str
    locale: str | None
    provenance: Provenance
