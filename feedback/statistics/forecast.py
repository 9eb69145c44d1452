"""How many units a procedure will need: said beforehand, and with every "not yet".

A bet's wealth is a random walk whose steps have a known mean and spread for given rates, so the units after which it is above the
threshold with a wanted probability solve a quadratic. Assumes independent units and a constant share; a forecast, not a guarantee.
"""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np

from feedback.statistics.tallies import Floats


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
    z = NormalDist().inv_cdf(power)
    needed = lacking + math.log(len(table))  # the bet that wins is one of K that share the stake
    roots = [
        ((z * sd + math.sqrt(z * z * sd * sd + 4 * mu * needed)) / (2 * mu)) ** 2
        for mu, sd in zip(mean.tolist(), spread.tolist(), strict=True)
        if mu > 0
    ]
    return math.ceil(min(roots)) if roots else None
