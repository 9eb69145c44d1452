"""A topic takes only its own kind: what stands on the wrong one is a dead letter that says where it belongs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
from msgspec import Struct

from feedback.intake.contract import Rejected
from feedback.intake.edge import Edge
from feedback.topics import JUDGE_REQUESTS, RATINGS, TURNS, VERDICTS
from streams.log import Stored, Unsigned

_HOMES = {
    "turn": ("turn", TURNS),
    "rating": ("rating", RATINGS),
    "verdict": ("verdict", VERDICTS),
    "unjudged": ("verdict", VERDICTS),
    "request": ("request", JUDGE_REQUESTS),
}


class _Said(Struct):
    """What a record says that it is; a question for the judge has no `event`."""

    event: Any = None
    request_id: Any = None


_decode: Callable[[bytes], _Said] = msgspec.json.Decoder(_Said).decode


def misplaced(kind: str, topic: str) -> Rejected | None:
    """Where a record of a kind belongs, if that is another topic than its own; None where it isn't, or nobody knows it."""
    name, home = _HOMES.get(kind, ("", topic))
    if home == topic:
        return None
    return Rejected("wrong_topic", "event", f"a {name} on {topic}: send it to {home}")


def unsigned(record: Stored, edge: Edge, before: Unsigned) -> Rejected | None:
    """Why a question or a verdict is not believed; None for one that we signed, or that stands where nothing was signed yet."""
    why_not = edge.refusal(record.topic, record.value, record.headers)
    old = record.offset < before.get((record.topic, record.partition), 0)
    return None if old else why_not


def stray(record: Stored) -> Rejected | None:
    """The same for bytes of which it is not known whether they are anything at all."""
    try:
        said = _decode(record.value)
    except (msgspec.DecodeError, ValueError, RecursionError):
        return None
    kind = "request" if said.event is None and isinstance(said.request_id, str) else said.event
    return misplaced(kind, record.topic) if isinstance(kind, str) else None
