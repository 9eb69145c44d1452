"""How many units a procedure will need: said beforehand, and with every "not yet".

What passes a guardrail is looked for in futures that are drawn: units come with the rates that are known, as surely as they are known,
and the bets win or lose together, as they do in the procedure. One rollout takes several times as long as another that is just
like it, so a forecast is a range; assumes independent units. When harm is found is worked out by the normal distribution.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike

from feedback.statistics.harm import SHIFTS, harm_table
from feedback.statistics.tallies import Floats, Strata, log_mean_exp

FUTURES = 400
"""So many are drawn; always the same ones, so that whoever looks at the same counts says the same."""

LIMIT = 1_000_000_000
"""Units beyond which nobody waits."""

_PHI = NormalDist().cdf


@dataclass(frozen=True)
class Forecast:
    """Units of both arms: of ten futures one is over before `low`, five before `middle` and nine before `high`."""

    low: int
    middle: int
    high: int


@dataclass(frozen=True, eq=False)
class Period:
    """So many units that come at one share, with the logs of the bets' factors there, [K, 2, 2]."""

    units: int
    share: float
    table: Floats


def units_to_pass(
    table: Floats,
    share: float,
    candidate: float,
    incumbent: float,
    log_threshold: float,
    wealth: ArrayLike = 0.0,
    worth: float | None = None,
) -> Forecast | None:
    """How many units more until log E reaches the threshold; None where no number is enough.

    `table` are the logs of the bets' factors in one stratum, [K, 2, 2], `wealth` what each bet has won so far, as a log; the rates
    are of the bad outcome in each arm, known as surely as by `worth` units (None: exactly).
    """
    if not (_mean(table, share, candidate, incumbent) > 0).any():
        return None
    units = passages(ever_more(share, table), candidate, incumbent, log_threshold, wealth, worth)
    low, middle, high = np.quantile(np.minimum(units, LIMIT), (0.1, 0.5, 0.9), method="higher").tolist()
    return Forecast(int(low), int(middle), int(high)) if middle < LIMIT else None


def passages(
    periods: Iterable[Period],
    candidate: float,
    incumbent: float,
    log_threshold: float,
    wealth: ArrayLike = 0.0,
    worth: float | None = None,
    since: int = 0,
) -> Floats:
    """After how many units log E is at the threshold, `since` units or later, in each of FUTURES futures.

    Looked at is the end of each period. inf where they end before, and for the last twentieth of the futures, which nobody waits for.
    """
    random = np.random.default_rng(0)
    rates = np.full(FUTURES, incumbent)
    if worth is not None:
        rates = random.beta(incumbent * worth, (1 - incumbent) * worth, FUTURES)
    bad = np.stack([rates, np.minimum(rates * candidate / incumbent, 1)], -1)
    outcomes = np.stack([1 - bad, bad], -1)  # by future, arm and outcome
    passed, came, logs = np.full(FUTURES, np.inf), 0, np.asarray(wealth, float)
    for period in periods:
        came += period.units
        chance = (np.array([1 - period.share, period.share])[:, None] * outcomes).reshape(FUTURES, 4)
        logs = logs + random.multinomial(period.units, chance) @ period.table.reshape(-1, 4).T
        if came >= since:
            passed[np.isinf(passed) & (log_mean_exp(logs) >= log_threshold)] = came
            if np.isfinite(passed).mean() > 0.95:
                break  # the last few would take as long as all others together
    return passed


def ever_more(share: float, table: Floats) -> Iterator[Period]:
    """Units at one share for as long as it takes: each period a twentieth of all before it."""
    came = 0
    while came < LIMIT:
        more = max(1, came // 20)
        came += more
        yield Period(more, share, table)


def days_to_find(
    days: Iterable[float], per_day: float, candidate: float, incumbent: float, log_threshold: float, power: float
) -> int | None:
    """After how many days' units a rollout finds harm with probability `power`; None where these days are not enough.

    `days` are the shares, day by day, of `per_day` new units each; the rates are of the bad outcome in each arm. Half of the stake
    is on the rollout as a whole (`late_harm_log_e`).
    """
    means, variances = np.zeros(len(SHIFTS)), np.zeros(len(SHIFTS))
    needed = log_threshold + math.log(2 * len(SHIFTS))
    for day, share in enumerate(days, 1):
        table = harm_table(Strata(np.array([share]), np.array([incumbent])))[:, 0]
        mean = _mean(table, share, candidate, incumbent)
        square = (table**2 * _chance(share, candidate, incumbent)).sum((-2, -1))
        means, variances = means + per_day * mean, variances + per_day * (square - mean**2)
        if max(map(_PHI, (means - needed) / np.sqrt(variances))) >= power:
            return day
    return None


def _mean(table: Floats, share: float, candidate: float, incumbent: float) -> Floats:
    """Mean of the log factor of one unit, for each bet."""
    return np.asarray((table * _chance(share, candidate, incumbent)).sum((-2, -1)), float)


def _chance(share: float, candidate: float, incumbent: float) -> Floats:
    """Of each arm and outcome, [2, 2]."""
    rates = np.array([incumbent, candidate])
    return np.asarray(np.array([1 - share, share])[:, None] * np.stack([1 - rates, rates], -1), float)
