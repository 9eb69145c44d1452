"""What blind comparisons come to: evidence that people prefer the candidate's replies, or the incumbent's. Pure.

Pairs are counted in the order of sampling, up to the first of which somebody still has to speak: so nobody decides by looking which
pairs count. Of a pair that two people label the mean counts. What is not there when its time is over is a tie, and what comes later
counts nowhere. Identical replies are a tie that nobody is asked about, and no bet is made on them: who would bet on them with the
judge's word, or because people were never drawn, would gain or lose by what is certain.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from deploy.rules.comparing import JUDGE, Labelled
from feedback.statistics.plan import log_promotion
from feedback.statistics.shadow import shadow_add, shadow_empty, shadow_log_e
from feedback.statistics.tallies import Floats

FORECAST_FROM = 20
"""Of fewer counted pairs nothing is forecast."""

FARTHEST = 20_000
"""A forecast of more pairs than these is none."""

EVEN = 0.5

ALPHA = 0.05
"""Of letting pass a candidate that people do not prefer, over all its attempts; and of rejecting one that they do not prefer less."""


@dataclass(frozen=True)
class Comparisons:
    """What the gate looks at of a candidate's pairs against one incumbent."""

    pairs: int = 0
    counted: int = 0
    """From the first on, all of which everybody has spoken whose word is wanted."""
    identical: int = 0
    """Of those counted: ties by declaration."""
    wins: int = 0
    ties: int = 0
    losses: int = 0
    """Of those counted that people were asked about, for the candidate."""
    log_e: float = 0.0
    """That people prefer the candidate."""
    log_e_loses: float = 0.0
    """That they prefer the incumbent."""
    log_threshold: float = log_promotion(ALPHA, 1)
    """The evidence from which it wins: ever more, each time that it is tried."""
    missing: int | None = None
    """So many more pairs would do, were they like those so far; None where nobody can say, or no number would."""
    wait_people: int = 0
    wait_judge: int = 0
    """Of all pairs, those of which people, or the judge, still have to speak."""
    wait_second: int = 0
    """Of those that wait for people the ones of which somebody has spoken: a second person is wanted."""
    agreed: int = 0
    agreed_of: int = 0
    """Of the pairs that both people and the judge decided, how often they decided alike."""
    leaked: tuple[str, ...] = ()
    """Turns of labelled pairs that the candidate was trained on."""
    lineage_unknown: str | None = None
    """Why nobody can say on which turns the candidate was trained."""

    @property
    def people(self) -> int:
        """Counted pairs that people were asked about."""
        return self.wins + self.ties + self.losses

    @property
    def win_rate(self) -> float | None:
        """By people; a tie is half a win. None where they have said nothing that counts."""
        return (self.wins + self.ties / 2) / self.people if self.people else None

    @property
    def figures(self) -> dict[str, Any]:
        """As JSON values: for a reason, and for whoever looks. `e` is E, `needed` the one from which the candidate wins."""
        names = (
            "pairs", "counted", "identical", "wins", "ties", "losses", "win_rate", "wait_people", "wait_second", "wait_judge", "agreed",
            "agreed_of", "missing",
        )  # fmt: skip
        told = {"e": self.log_e, "e_loses": self.log_e_loses, "needed": self.log_threshold}
        return {name: getattr(self, name) for name in names} | {name: _e(log) for name, log in told.items()}


def weigh(pairs: Sequence[Labelled], judged: bool, now_us: int, attempt: int = 1) -> Comparisons:
    """The pairs of one candidate and one incumbent, in the order of sampling, at its how-manieth attempt to be promoted.

    `judged`: there is a judge, and it is waited for. A label that is not there once a pair's time is over is a tie.
    """
    read = [_read(pair, judged, now_us) for pair in pairs]
    counted = next((at for at, one in enumerate(read) if one.waits), len(read))
    bets = [one for one in read[:counted] if not one.identical]
    f, h, xi, pi = (np.array([getattr(one, name) for one in bets], float) for name in ("f", "h", "xi", "pi"))
    centre = (EVEN + np.cumsum(f) - f) / (1 + np.arange(len(f)))  # of the judge's words before, and of an even one
    sides = np.stack([f, 1 - f]), np.stack([h, 1 - h]), np.stack([xi, xi]), np.stack([pi, pi])
    steps = shadow_add(shadow_empty(2, len(f)), *sides, np.stack([centre, 1 - centre]))
    wealth = steps.sum(1)
    log_e, log_e_loses = shadow_log_e(wealth).tolist()
    threshold = log_promotion(ALPHA, attempt)
    both = [one for one in bets if one.xi and one.h != EVEN and one.f != EVEN]
    return Comparisons(
        pairs=len(read),
        counted=counted,
        identical=counted - len(bets),
        wins=int(((h > EVEN) & (xi == 1)).sum()),
        ties=int(((h == EVEN) & (xi == 1)).sum()),
        losses=int(((h < EVEN) & (xi == 1)).sum()),
        log_e=log_e,
        log_e_loses=log_e_loses,
        wait_people=sum(one.wants_people for one in read),
        wait_second=sum(one.wants_second for one in read),
        wait_judge=sum(one.wants_judge for one in read),
        agreed=sum((one.h > EVEN) == (one.f > EVEN) for one in both),
        agreed_of=len(both),
        log_threshold=threshold,
        missing=_missing(wealth[0], counted, threshold),
    )


def _missing(wealth: Floats, counted: int, log_threshold: float) -> int | None:
    """How many more pairs would do, each of which wins what those so far have won on average."""

    def reached(more: int) -> bool:
        return float(shadow_log_e(wealth * (1 + more / counted))) >= log_threshold

    if counted < FORECAST_FROM or not reached(FARTHEST):
        return None
    return bisect_left(range(FARTHEST), True, key=reached)


def _e(log: float) -> float:
    """E for people: four digits, and of more than a number can say the most that it can."""
    return float(f"{math.exp(min(log, 700.0)):.4g}")


@dataclass(frozen=True)
class _Pair:
    """One pair, as far as it is known by now."""

    identical: bool
    f: float
    h: float
    xi: int
    pi: float
    wants_people: bool
    wants_second: bool
    wants_judge: bool

    @property
    def waits(self) -> bool:
        return self.wants_people or self.wants_judge


def _read(pair: Labelled, judged: bool, now_us: int) -> _Pair:
    in_time = [label for label in pair.labels if label.at_us <= pair.until_us]
    by_people = [label for label in in_time if label.labeller != JUDGE][: pair.people]
    by_judge = next((label for label in in_time if label.labeller == JUDGE), None)
    said = [EVEN if label.preference is None else label.preference for label in by_people]
    said += [EVEN] * (pair.people - len(said))
    f = EVEN if by_judge is None or by_judge.preference is None else by_judge.preference
    open_still = not pair.identical and now_us <= pair.until_us
    return _Pair(
        identical=pair.identical,
        f=f,
        h=sum(said) / len(said) if said else EVEN,
        xi=int(pair.people > 0),
        pi=pair.probability,
        wants_people=open_still and len(by_people) < pair.people,
        wants_second=open_still and 0 < len(by_people) < pair.people,
        wants_judge=open_still and judged and by_judge is None,
    )
