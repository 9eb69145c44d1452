"""The events that come in, field by field, as other programs send them; docs/reference/events.md is made of this file."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from feedback.records import Outcome, RatingKind

SCHEMA = 1
DEFAULT_TENANT = "default"


class _Wire(Struct, kw_only=True, forbid_unknown_fields=True, gc=False):
    event_id: Annotated[
        str, Meta(description="Your idempotency key, unique per tenant: the same id twice counts once.")
    ]
    conversation_id: Annotated[str, Meta(description="Names the conversation; its events stay in order.")]
    occurred_at: Annotated[
        str | float,
        Meta(
            description="When it happened: any form of RFC 3339 with an offset, or seconds since the epoch, as number or as "
            "text; milliseconds are a dead letter that says so. At most an hour ahead."
        ),
    ]
    schema: Annotated[int, Meta(description="Version of this page; another one is a dead letter.")] = SCHEMA
    tenant: Annotated[str, Meta(description="Whose events these are; part of every id.")] = DEFAULT_TENANT
    user_id: Annotated[
        str | None, Meta(description="Who spoke or rated; replaced by a keyed hash before anything is kept.")
    ] = None
    locale: Annotated[str | None, Meta(description="Language as BCP 47, for example `de` or `pt-BR`.")] = None
    tags: Annotated[
        dict[str, str],
        Meta(
            description="Whatever you want to slice by later; few different values, at most 32 keys. Numbers, `true` and "
            "`false` become the text that JSON has for them; `null` is left out."
        ),
    ] = {}


class WireTurn(_Wire, kw_only=True, forbid_unknown_fields=True, gc=False, tag_field="event", tag="turn"):
    """One reply of the chatbot and what it answered."""

    turn_id: Annotated[str, Meta(description="Names this reply; ratings refer to it.")]
    messages: Annotated[
        list[dict[str, Any]],
        Meta(
            description="The context that the reply answers: OpenAI chat messages, verbatim, oldest first. A user's or "
            "system's has `content`, an assistant's `content` or `tool_calls`."
        ),
    ]
    reply: Annotated[
        str | dict[str, Any],
        Meta(description="What the user saw: text, or an assistant message. What is not text is kept, not trained on."),
    ]
    policy: Annotated[str, Meta(description="Name or digest of the model or adapter that produced it.")]
    replaces: Annotated[
        str | None, Meta(description="`turn_id` of the reply that this one, regenerated, took the place of.")
    ] = None
    outcome: Annotated[Outcome, Meta(description="How the reply ended; only `ok` is learned from.")] = "ok"
    finish_reason: Annotated[str | None, Meta(description="As the engine said.")] = None
    usage: Annotated[
        dict[str, Any] | None,
        Meta(description="`prompt_tokens`, `completion_tokens`, `latency_ms`, and whatever else the engine counts."),
    ] = None
    train: Annotated[bool, Meta(description="`false`: never learn from this turn.")] = True
    truncated: Annotated[
        int, Meta(description="Messages cut off the beginning to fit; above 0 the turn is not trained on.")
    ] = 0
    base: Annotated[str | None, Meta(description="Base model; stamped by the gateway.")] = None
    rollout: Annotated[dict[str, Any] | None, Meta(description="`id`, `arm`, `share`; stamped by the gateway.")] = None


class WireRating(_Wire, kw_only=True, forbid_unknown_fields=True, gc=False, tag_field="event", tag="rating"):
    """What somebody said of a reply, or of a whole conversation."""

    source: Annotated[
        Literal["user", "expert", "system"],
        Meta(description="Who speaks. The judge's verdicts never come from outside."),
    ]
    kind: Annotated[RatingKind, Meta(description="How they speak; decides what `value` is.")]
    value: Annotated[Any, Meta(description="See below; `null` takes the rating back.")]
    turn_id: Annotated[
        str | None,
        Meta(
            description="The reply; needed for `thumbs`, `pick`, `edit`, `signal`. Without it: the whole conversation."
        ),
    ] = None
    rubric: Annotated[str | None, Meta(description="The rubric item that an expert speaks to.")] = None
