"""How many units a procedure will need: said beforehand, and with every "not yet".

A bet's log wealth is a random walk whose steps have a known mean and spread for given rates: when it first reaches the threshold has
the inverse Gaussian distribution. Assumes independent units and a constant share; a forecast, not a guarantee.

Source: first passage of a Brownian motion with drift, Schrödinger 1915; Wald 1947.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike

from feedback.statistics.harm import SHIFTS, harm_table
from feedback.statistics.tallies import Floats, Strata

_PHI = NormalDist().cdf


def units_to_pass(
    table: Floats,
    share: float,
    candidate: float,
    incumbent: float,
    log_threshold: float,
    power: float = 0.8,
    wealth: ArrayLike = 0.0,
) -> int | None:
    """Units of both arms until log E reaches the threshold with probability `power`; None where no number is enough.

    `table` are the logs of the bets' factors in one stratum, [K, 2, 2], `wealth` what each bet has won so far, as a log; the rates
    are of the bad outcome in each arm.
    """
    mean, spread = _step(table, share, candidate, incumbent)
    # one of K that share the stake has to win it all
    needed = np.maximum(log_threshold + math.log(len(table)) - np.asarray(wealth), 0.1) + np.zeros(len(table))
    steps = zip(mean.tolist(), spread.tolist(), needed.tolist(), strict=True)
    found = [_units(mu, sd, height, power) for mu, sd, height in steps if mu > 0]
    return math.ceil(min(found)) if found else None


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
        mean, spread = _step(table, share, candidate, incumbent)
        means, variances = means + per_day * mean, variances + per_day * spread**2
        if max(map(_PHI, (means - needed) / np.sqrt(variances))) >= power:
            return day
    return None


def _step(table: Floats, share: float, candidate: float, incumbent: float) -> tuple[Floats, Floats]:
    """Mean and spread of the log factor of one unit, for each bet."""
    rates = np.array([incumbent, candidate])
    chance = np.array([1 - share, share])[:, None] * np.stack([1 - rates, rates], -1)
    mean = (table * chance).sum((-2, -1))
    return mean, np.sqrt((table**2 * chance).sum((-2, -1)) - mean**2)


def _units(mean: float, spread: float, height: float, power: float) -> float:
    """Steps within which a walk reaches `height` with this probability: first passage of a Brownian motion with drift."""
    low, high = 0.0, height / mean
    while _reached(mean, spread, height, high) < power:
        low, high = high, 2 * high
    while high - low > 0.5:
        middle = (low + high) / 2
        low, high = (low, middle) if _reached(mean, spread, height, middle) >= power else (middle, high)
    return high


def _reached(mean: float, spread: float, height: float, steps: float) -> float:
    scale = spread * math.sqrt(steps)
    below = _PHI((-height - mean * steps) / scale)
    again = math.exp(math.log(below) + 2 * mean * height / spread**2) if below > 0 else 0.0
    return _PHI((mean * steps - height) / scale) + again
