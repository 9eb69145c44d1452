"""A topic takes only its own kind: what stands on the wrong one is a dead letter that says where it belongs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
from msgspec import Struct

from feedback.intake.contract import Rejected
from feedback.topics import JUDGE_REQUESTS, RATINGS, TURNS, VERDICTS
from streams.log import Stored

_HOMES = {
    "turn": ("turn", TURNS),
    "rating": ("rating", RATINGS),
    "verdict": ("verdict", VERDICTS),
    "unjudged": ("verdict", VERDICTS),
}
_REQUEST = ("request", JUDGE_REQUESTS)


class _Said(Struct):
    """What a record says that it is; a question for the judge has no `event`."""

    event: Any = None
    request_id: Any = None


_decode: Callable[[bytes], _Said] = msgspec.json.Decoder(_Said).decode


def misplaced(record: Stored) -> Rejected | None:
    """Where a record belongs, if that is another topic than its own; None where it isn't, or nobody can tell."""
    try:
        said = _decode(record.value)
    except (msgspec.DecodeError, ValueError, RecursionError):
        return None
    asks = said.event is None and isinstance(said.request_id, str)
    found = _REQUEST if asks else _HOMES.get(said.event) if isinstance(said.event, str) else None
    if found is None or found[1] == record.topic:
        return None
    kind, home = found
    return Rejected("wrong_topic", "event", f"a {kind} on {record.topic}: send it to {home}")
