"""Evidence that people prefer the candidate's replies, from pairs that nobody was served: every pair has the judge's word, some people's.

The judge's word enters centred, and corrected by people's on a Bernoulli sample of the same pairs, whose probability was stored when
it was drawn: so a judge who is wrong, or was bribed by the candidate, changes how many pairs it takes, never the guarantee. One of
the bets is on people alone, so against people alone a judge costs a factor of five in E at most. Assumes one pair per user, in the order of sampling;
a skip or a time-out is a tie, by declaration.

Source: prediction-powered e-values, arXiv 2502.04294; leaning on the judge as far as it proves itself, arXiv 2505.18659.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from feedback.statistics.tallies import Floats, log_mean_exp

WEIGHTS = (0.0, 0.25, 0.5, 0.75, 1.0)
"""How far the judge is leaned on: the wealth's axis before the last."""

BETS = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64)
"""Of the largest bet that can't lose everything: the wealth's last axis."""


def shadow_empty(*lead: int) -> Floats:
    """The wealth before the first pair, float[..., W, L]."""
    return np.zeros((*lead, len(WEIGHTS), len(BETS)))


def shadow_add(
    log_wealth: Floats, f: ArrayLike, h: ArrayLike, xi: ArrayLike, pi: ArrayLike, centre: ArrayLike
) -> Floats:
    """The wealth float[..., W, L] after one more pair for each tally: each argument of shape [...].

    `f` is the judge's preference for the candidate, 0 to 1; `h` people's (0, a half, 1), read only where `xi` says that they were
    asked, which happened with probability `pi`; `centre` the mean of `f` over the pairs before. Raises ValueError for what is out of range.
    """
    f, h, xi, pi, centre = (np.asarray(values, float)[..., None] for values in (f, h, xi, pi, centre))
    h = np.where(xi == 1, h, 0.5)
    if not ((pi > 0) & (pi <= 1)).all():
        raise ValueError("the probability that people are asked is more than 0 and at most 1")
    for values in (f, h, centre):
        if not ((values >= 0) & (values <= 1)).all():
            raise ValueError("a preference lies between 0 and 1")
    weight = np.asarray(WEIGHTS)
    value = weight * (f - centre) * (1 - xi / pi) + xi / pi * (h - 0.5)
    largest = np.maximum(0.5 / pi + weight * (1 / pi - 1), weight)
    return np.asarray(log_wealth + np.log1p((value / largest)[..., None] * np.asarray(BETS)), float)


def shadow_log_e(log_wealth: Floats) -> Floats:
    """log E of the wealth float[..., W, L]: [...]. People prefer the candidate at level alpha where it reaches log(1/alpha)."""
    return log_mean_exp(log_wealth, (-2, -1))
