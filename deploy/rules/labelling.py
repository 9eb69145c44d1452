"""How a person labels a blind comparison: what is shown, in which order, and what an answer says of the candidate. Pure values."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from deploy.rules.comparing import Comparison
from feedback.records import Message

Side = Literal["candidate", "incumbent"]
Answer = Literal["first", "second", "tie", "skip"]
"""Which reply is better: the one that is shown first, the second, neither; or no answer."""

CLAIM_US = 600 * 1_000_000
"""So long a place is kept for the person who was asked."""

TOWARDS_BALANCE = 2 / 3
"""With which probability a person sees first whose reply came first less often so far: a biased coin (Efron 1971)."""


@dataclass(frozen=True)
class Question:
    """A pair as it is put to a person: nothing in it tells the candidate's reply from the incumbent's."""

    id: str
    locale: str | None
    prompt: list[Message]
    first: str
    second: str


@dataclass(frozen=True)
class Agreement:
    """Of so many answers on pairs that two have labelled so many were the same; skips are no answers."""

    pairs: int = 0
    agreed: int = 0


@dataclass(frozen=True)
class Progress:
    """How far one person, and all together, are with the pairs of candidates on which nobody has decided."""

    labelled: int
    """By this person, skips included."""
    given: int
    """Labels by people, in all."""
    wanted: int
    """So many labels by people are to be given in all."""
    left: int
    """Pairs that want a label and may get it from this person; others may be looking at them."""
    with_people: Agreement
    with_judge: Agreement


def side_first(shown: Mapping[Side, int], draw: float) -> Side:
    """Whose reply a person sees first, by how often each was first for this person; `draw` is uniform in [0, 1).

    Each side comes first as often as the other, within a few pairs, and no answer of before tells the next.

    >>> side_first({}, 0.49), side_first({}, 0.5)
    ('candidate', 'incumbent')
    >>> side_first({"candidate": 1}, 0.3), side_first({"candidate": 1}, 0.34), side_first({"incumbent": 1}, 0.6)
    ('candidate', 'incumbent', 'candidate')
    """
    ahead = shown.get("candidate", 0) - shown.get("incumbent", 0)
    probability = 0.5 if ahead == 0 else 1 - TOWARDS_BALANCE if ahead > 0 else TOWARDS_BALANCE
    return "candidate" if draw < probability else "incumbent"


def question(comparison: Comparison, first: Side) -> Question:
    """The pair, with this side's reply first."""
    replies = [comparison.candidate_reply, comparison.incumbent_reply]
    one, other = replies if first == "candidate" else reversed(replies)
    return Question(comparison.id, comparison.locale, comparison.prompt, one, other)


def preference(answer: Answer, first: Side) -> float | None:
    """What the answer says of the candidate, 0..1; None where it is skipped.

    >>> preference("first", "candidate"), preference("first", "incumbent"), preference("second", "incumbent")
    (1.0, 0.0, 1.0)
    """
    if answer == "skip":
        return None
    if answer == "tie":
        return 0.5
    return float((answer == "first") == (first == "candidate"))


def agreement(answers: Iterable[tuple[float | None, float | None]]) -> Agreement:
    """How often two, each with a preference, took the same side, or both none.

    >>> agreement([(1.0, 0.8), (0.0, 0.5), (0.5, 0.5), (None, 1.0)])
    Agreement(pairs=3, agreed=2)
    """
    both = [_side(one) == _side(other) for one, other in answers if one is not None and other is not None]
    return Agreement(len(both), sum(both))


def _side(preference: float) -> int:
    return (preference > 0.5) - (preference < 0.5)


def told(question: Question | None, progress: Progress) -> dict[str, Any]:
    """What a program is told: the pair that is asked about, and how far all is."""
    pair = dataclasses.asdict(question) if question is not None else None
    return {"pair": pair, "progress": dataclasses.asdict(progress)}
