"""Records with defaults, and facts in memory, for tests of what is computed from them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence, Set
from typing import Any

from feedback.digests import payload_of
from feedback.intake.edge import content_hash
from feedback.records import Judgement, Rating, Turn, TurnKey, Unjudged, Verdict

START_US = 1_700_000_000_000_000
MINUTE_US = 60_000_000
AS_OF_US = START_US + 10_000 * MINUTE_US

GATE, CALIBRATE, TRAIN = 5, 25, 60
"""A bucket of each split."""


def says(*texts: str) -> list[dict[str, Any]]:
    """A context: user and assistant in turn, the user last."""
    roles = ("user", "assistant")
    return [{"role": roles[(len(texts) - 1 - i) % 2], "content": text} for i, text in enumerate(texts)]


def turn(turn_id: str, **changes: Any) -> Turn:
    """A trainable turn of the train split, a minute after the start."""
    fields: dict[str, Any] = {
        "tenant": "default",
        "event_id": f"served-{turn_id}",
        "conversation_id": "c1",
        "turn_id": turn_id,
        "occurred_at_us": START_US + MINUTE_US,
        "messages": says(f"what about {turn_id}?"),
        "reply": f"reply {turn_id}",
        "policy": "bot",
        "user_id": "hashed user",
        "bucket": TRAIN,
    }
    return Turn(**(fields | changes))


def rating(event_id: str, turn_id: str | None, kind: str, value: Any, **changes: Any) -> Rating:
    """A user's rating, two minutes after the start."""
    fields: dict[str, Any] = {
        "tenant": "default",
        "event_id": event_id,
        "conversation_id": "c1",
        "occurred_at_us": START_US + 2 * MINUTE_US,
        "source": "user",
        "kind": kind,
        "value": value,
        "turn_id": turn_id,
        "user_id": "hashed user",
        "bucket": TRAIN,
    }
    return Rating(**(fields | changes))


def verdict(verdict_id: str, turn_id: str, **changes: Any) -> Verdict:
    """The judge's answer, three minutes after the start."""
    fields: dict[str, Any] = {
        "verdict_id": verdict_id,
        "request_id": f"q-{verdict_id}",
        "tenant": "default",
        "conversation_id": "c1",
        "turn_id": turn_id,
        "occurred_at_us": START_US + 3 * MINUTE_US,
        "model": "judge-1",
        "rubric": "r1",
        "prompt_hash": "p1",
        "confidence": 0.8,
        "rationale": "because",
    }
    return Verdict(**(fields | changes))


def unjudged(verdict_id: str, turn_id: str, reason: str, **changes: Any) -> Unjudged:
    """A question that found no answer, three minutes after the start."""
    fields: dict[str, Any] = {
        "verdict_id": verdict_id,
        "request_id": f"q-{verdict_id}",
        "tenant": "default",
        "conversation_id": "c1",
        "turn_id": turn_id,
        "occurred_at_us": START_US + 3 * MINUTE_US,
        "reason": reason,
    }
    return Unjudged(**(fields | changes))


class MemoryFacts:
    """Facts as they lie in memory, in the order given."""

    def __init__(self, events: Iterable[Turn | Rating | Judgement]) -> None:
        self.events: Sequence[Turn | Rating | Judgement] = list(events)

    def turns(self, since_us: int = 0, until_us: int = 2**62, only: Set[bytes] | None = None) -> list[tuple[Turn, str]]:
        turns = [(e, content_hash(e)) for e in self._between(since_us, until_us) if isinstance(e, Turn)]
        return [(e, name) for e, name in turns if only is None or payload_of(*e.key, name) in only]

    def turns_before(self, until_us: int) -> int:
        return len(self.turns(until_us=until_us - 1))

    def known_before(self, until_us: int, turns: Set[TurnKey]) -> Set[TurnKey]:
        return turns & {e.key for e in self.events if isinstance(e, Turn) and e.occurred_at_us < until_us}

    def ratings(self, since_us: int = 0, until_us: int = 2**62) -> list[tuple[Rating, str]]:
        return [(e, content_hash(e)) for e in self._between(since_us, until_us) if isinstance(e, Rating)]

    def verdicts(self, since_us: int = 0, until_us: int = 2**62) -> list[Judgement]:
        return [e for e in self._between(since_us, until_us) if isinstance(e, Verdict | Unjudged)]

    def _between(self, since_us: int, until_us: int) -> list[Turn | Rating | Judgement]:
        return [event for event in self.events if since_us <= event.occurred_at_us <= until_us]
