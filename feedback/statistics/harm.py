"""Evidence that the candidate does harm: more bad outcomes per assigned unit than the incumbent, looked at as often as one likes.

What is bet on is which outcome comes with which arm, against the mixture of both: under the null E[Y(1) - Y(0) | past] <= 0 the
expected factor is at most one, whatever the base rate does, so P(E ever reaches 1/alpha) <= alpha. Assumes that the arm was drawn
with the stratum's share, independently of the unit's outcomes, and that units enter in the order in which they were assigned.

Source: betting on contingency tables, Turner, Ly, Grünwald, arXiv 2106.02693; anytime-valid inference for rollouts, arXiv 2512.04366.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from feedback.statistics.tallies import Floats, Ints, Strata, log_mean_exp, mixture

SHIFTS = (0.2, 0.4, 0.7, 1.0, 1.4, 2.0)
"""Of the log odds of a bad outcome, by which the candidate may be worse: the mixture finds whichever it is."""


def harm_table(strata: Strata, shifts: ArrayLike = SHIFTS) -> Floats:
    """Logs of the factors, [..., K, S, 2, 2] by shift, stratum, arm and outcome."""
    p, m, shift = strata.slots(shifts)
    worse = 1 / (1 + (1 / m - 1) * np.exp(-shift))
    mixed = p * worse + (1 - p) * m
    by_arm = np.stack(np.broadcast_arrays(m, worse), -1)
    bad = np.log(by_arm / mixed[..., None])
    good = np.log((1 - by_arm) / (1 - mixed[..., None]))
    return np.stack([good, bad], -1)


def harm_log_e(counts: Ints, strata: Strata, shifts: ArrayLike = SHIFTS) -> Floats:
    """log E for counts int[..., S, 2, 2]: [...]."""
    return mixture(counts, harm_table(strata, shifts))


def late_harm_log_e(counts: Ints, strata: Strata, shifts: ArrayLike = SHIFTS) -> Floats:
    """log E with half its weight on the whole rollout and half on starting anew with each later stage: [...].

    Harm that begins late would have to win back first what the good days cost. The later stages' weights halve one by one, so
    that they are known beforehand however many there will be; what has not begun counts as 1.
    """
    wealth = (counts[..., None, :, :, :] * harm_table(strata, shifts)).sum(axis=(-2, -1))
    weights = restart_weights(int(strata.stages[-1]) + 1)
    parts = [wealth[..., strata.stages >= stage].sum(-1) + np.log(weight) for stage, weight in enumerate(weights)]
    idle = np.full_like(parts[0], np.log(1 - weights.sum()))
    return log_mean_exp(np.logaddexp.reduce([*parts, idle]))


def restart_weights(stages: int) -> Floats:
    """The weight of what starts with each stage: a half, a quarter, an eighth … (of the other half, the halves).

    >>> restart_weights(3).tolist()
    [0.5, 0.25, 0.125]
    """
    return np.asarray(0.5 ** np.arange(1, stages + 1), float)
