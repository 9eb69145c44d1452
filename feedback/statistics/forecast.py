"""How many units a procedure will need: said beforehand, and with every "not yet".

A bet's log wealth is a random walk whose steps have a known mean and spread for given rates: when it first reaches the threshold has
the inverse Gaussian distribution. Assumes independent units and a constant share; a forecast, not a guarantee.

Source: first passage of a Brownian motion with drift, Schrödinger 1915; Wald 1947.
"""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np

from feedback.statistics.tallies import Floats

_PHI = NormalDist().cdf


def units_to_pass(
    table: Floats, share: float, candidate: float, incumbent: float, lacking: float, power: float = 0.8
) -> int | None:
    """Units of both arms until log E has grown by `lacking` with probability `power`; None where no number is enough.

    `table` are the logs of the bets' factors in one stratum, [K, 2, 2]; the rates are of the bad outcome in each arm.
    """
    rates = np.array([incumbent, candidate])
    chance = np.array([1 - share, share])[:, None] * np.stack([1 - rates, rates], -1)
    mean = (table * chance).sum((-2, -1))
    spread = np.sqrt((table**2 * chance).sum((-2, -1)) - mean**2)
    needed = lacking + math.log(len(table))  # the bet that wins is one of K that share the stake
    found = [_units(mu, sd, needed, power) for mu, sd in zip(mean.tolist(), spread.tolist(), strict=True) if mu > 0]
    return math.ceil(min(found)) if found else None


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
