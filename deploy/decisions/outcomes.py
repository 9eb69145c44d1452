"""What became of a rollout's units, from the facts: errors, dislikes and responses within each one's window.

By assignment, not by what served: a unit whose candidate could not be loaded stays where it was enrolled, and that is an error of
this arm. Only replies of our own gateway count, and of ratings those of users on these replies; of one rater's ratings of a kind on
a reply the last one that counts in time.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from deploy.control.assignments import Name
from deploy.rules.assignment import Enrolment
from feedback.digests import digest_of
from feedback.records import RANKS, RATED_BY, Rating, Turn
from feedback.statistics.closing import counting
from feedback.statistics.tallies import Ints

FEW_STARS = 2
"""So many at most are a dislike."""


@dataclass(frozen=True, eq=False)
class Told:
    """Events of enrolled units, each with the unit's number in order of assignment."""

    opened_us: Ints
    """When each unit was enrolled, [N], rising."""
    errors: list[tuple[int, int, int]] = field(default_factory=list)
    """Unit, when it happened, when it was received."""
    ratings: list[tuple[int, int, int, object, object, bool | None]] = field(default_factory=list)
    """Unit, times, whose rating of what, which of them is later, and whether it is a dislike; None: a response that is taken back."""
    slices: dict[int, frozenset[str]] = field(default_factory=dict)
    """Of a unit, by the first reply that it got."""
    latency_of: array[int] = field(default_factory=lambda: array("q"))
    """The unit of each reply that told how long it took, in `latency_ms`."""
    latency_ms: array[float] = field(default_factory=lambda: array("d"))


@dataclass(frozen=True, eq=False)
class Outcomes:
    """Of the units that have closed at one age: 1 is bad, [n] by metric."""

    y: dict[str, Ints]
    late: Ints
    """How many events of each came too late to count, [n]."""


def tell(enrolments: Sequence[Enrolment], events: Iterable[tuple[int, Turn | Rating]]) -> Told:
    """Sort what was received (with its time) to the units; turns come before their ratings."""
    told = Told(np.array([one.at_us for one in enrolments], np.int64))
    numbers = defaultdict[Name, list[int]](list)
    for number, one in enumerate(enrolments):
        numbers[one.tenant, one.unit].append(number)
    served: dict[bytes, int] = {}  # the unit of each reply: of millions nothing else is kept
    first: dict[int, int] = {}
    kinds: dict[frozenset[str], frozenset[str]] = {}
    for received_us, event in events:
        if isinstance(event, Turn):
            if event.origin == "gateway" and (unit := _unit(event, numbers, told)) is not None:
                served[digest_of(*event.key)] = unit
                _tell_turn(told, first, kinds, unit, received_us, event)
        elif event.source == "user" and event.kind in RATED_BY and event.key is not None:
            turn = digest_of(*event.key)
            if (of := served.get(turn)) is not None:
                order = event.occurred_at_us, event.event_id, RANKS[event.origin]
                whose = turn, event.kind, event.user_id
                told.ratings.append((of, event.occurred_at_us, received_us, whose, order, _disliked(event)))
    return told


def outcomes(told: Told, age_us: int, grace_us: int, now_us: int) -> Outcomes:
    """What every metric says of the units that have closed at this age."""
    closed = int(np.searchsorted(told.opened_us, now_us - age_us - grace_us, side="right"))
    y = {name: np.zeros(closed, np.int64) for name in ("errors", "dislikes", "responded")}
    late = np.zeros(closed, np.int64)
    for unit, counts, came_late in _counting(told, told.errors, age_us, grace_us, closed):
        if came_late:
            late[unit] += 1
        if counts:
            y["errors"][unit] = 1
    last: dict[object, tuple[object, int, bool | None]] = {}
    marks = _counting(told, [rating[:3] for rating in told.ratings], age_us, grace_us, closed)
    for (unit, counts, came_late), (*_, whose, order, disliked) in zip(marks, told.ratings, strict=True):
        if came_late:
            late[unit] += 1
        if counts and (whose not in last or last[whose][0] < order):  # type: ignore[operator]
            last[whose] = order, unit, disliked
    for _, unit, disliked in last.values():
        if disliked is not None:
            y["responded"][unit] = 1
            y["dislikes"][unit] |= disliked
    y["silent"] = 1 - y["responded"]
    return Outcomes(y, late)


def _counting(
    told: Told, events: Sequence[tuple[int, int, int]], age_us: int, grace_us: int, closed: int
) -> list[tuple[int, bool, bool]]:
    """Of each event its unit, whether it counts, and whether it came too late to."""
    unit, at_us, received_us = np.array(events, np.int64).reshape(-1, 3).T
    within, in_time = counting(told.opened_us[unit], at_us, received_us, age_us, grace_us)
    within &= unit < closed
    return list(zip(unit.tolist(), (within & in_time).tolist(), (within & ~in_time).tolist(), strict=True))


def _tell_turn(
    told: Told,
    first: dict[int, int],
    kinds: dict[frozenset[str], frozenset[str]],
    unit: int,
    received_us: int,
    turn: Turn,
) -> None:
    if turn.outcome == "error" or (turn.rollout or {}).get("instead"):
        told.errors.append((unit, turn.occurred_at_us, received_us))
    if isinstance(took_ms := (turn.usage or {}).get("latency_ms"), int | float):
        told.latency_of.append(unit)
        told.latency_ms.append(took_ms)
    if turn.occurred_at_us < first.get(unit, 2**62):
        first[unit] = turn.occurred_at_us
        locale = {f"locale:{turn.locale}"} if turn.locale else set()
        slices = frozenset(locale | {f"{name}:{value}" for name, value in turn.tags.items()})
        told.slices[unit] = kinds.setdefault(slices, slices)  # many users are of few kinds


def _unit(turn: Turn, numbers: dict[Name, list[int]], told: Told) -> int | None:
    """The number of the enrolment that was this turn's unit's last one then."""
    mine = numbers.get((turn.tenant, turn.user_id or turn.conversation_id))
    if not mine:
        return None
    place = bisect_right(mine, turn.occurred_at_us, key=lambda number: int(told.opened_us[number]))
    return mine[place - 1] if place else None


def _disliked(rating: Rating) -> bool | None:
    if rating.value is None:
        return None
    if rating.kind == "stars":
        return isinstance(rating.value, int) and rating.value <= FEW_STARS
    return rating.kind == "thumbs" and rating.value is False
