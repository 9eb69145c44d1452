"""Harm in outcomes between 0 and 1 that are not yes or no: a latency by its limit, a share of replies.

The bet is on the inverse-propensity weighted difference, centred on what was expected; assumes what `harm` assumes. The wealth of
each bet adds up, so it is kept instead of counts.

Source: Waudby-Smith, Ramdas, Estimating means of bounded random variables by betting, arXiv 2010.09686.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from feedback.statistics.tallies import Floats, Strata

BETS = (0.02, 0.05, 0.1, 0.2, 0.4, 0.8)
"""Of the largest bet that can't lose everything: the last axis of the wealth."""


def bounded_add(log_wealth: Floats, stratum: ArrayLike, arm: ArrayLike, y: ArrayLike, strata: Strata) -> Floats:
    """The wealth float[..., L] of each of `BETS` after one more unit for each tally, of shape [...]; 1 is the worst outcome.

    log E is `log_mean_exp` of it. Raises ValueError for an outcome outside 0 to 1.
    """
    stratum, arm, y = np.asarray(stratum, int), np.asarray(arm, int), np.asarray(y, float)
    if not ((y >= 0) & (y <= 1)).all():
        raise ValueError("a bounded outcome lies between 0 and 1")
    p, m = strata.p[..., stratum], strata.m[..., stratum]
    difference = np.where(arm == 1, 1 / p, -1 / (1 - p)) * (y - m)
    lowest = np.maximum(m / p, (1 - m) / (1 - p))
    return log_wealth + np.log1p(np.asarray(BETS) * (difference / lowest)[..., None])
