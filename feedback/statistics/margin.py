"""Evidence that the candidate is not worse than by a margin: what a promotion needs of every guardrail.

The null is that it is worse by the margin or more; E >= 20 refutes it at 5%, whenever one looks. Every guardrail has to pass,
each at the whole alpha (intersection-union). Assumes what `harm` assumes.

Source: estimating means by betting, Waudby-Smith, Ramdas, arXiv 2010.09686, on inverse-propensity weighted differences; the
relative margin is the conditional test of two Poisson rates (Przyborowski, Wilenski 1940) as a likelihood ratio.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from feedback.statistics.tallies import Floats, Ints, Strata, mixture

FRACTIONS = (0.03, 0.06, 0.12, 0.25, 0.5, 0.9)
"""Of the largest bet that can't lose everything."""

RATIOS = (0.4, 0.55, 0.7, 0.8, 0.9, 1.0)
"""Of the candidate's rate to the incumbent's: what is bet on against the relative margin."""


def margin_table(strata: Strata, delta: float, fractions: ArrayLike = FRACTIONS) -> Floats:
    """Logs of the factors, [..., K, S, 2, 2]; a margin below 0 asks for better. Raises ValueError unless -1 < delta < 1."""
    if not -1 < delta < 1:
        raise ValueError(f"a margin is a difference of two rates, between -1 and 1, not {delta}")
    p, m, fraction = strata.slots(fractions)
    largest = np.maximum((1 - m) / p, m / (1 - p))
    bet = fraction / np.maximum(
        largest - delta, delta
    )  # the maximum: a margin that nothing can reach still bets little
    weighted = np.stack([-1 / (1 - p), 1 / p], -1)[..., None] * np.stack([-m, 1 - m], -1)[..., None, :]
    return np.log1p(bet[..., None, None] * (delta - weighted))


def margin_log_e(counts: Ints, strata: Strata, delta: float, fractions: ArrayLike = FRACTIONS) -> Floats:
    """log E that the candidate's rate of bad outcomes exceeds the incumbent's by less than `delta`: [...]."""
    return mixture(counts, margin_table(strata, delta, fractions))


def difference_bounds(counts: Ints, strata: Strata, alpha: float) -> tuple[float, float]:
    """Lower and upper bound of the candidate's rate less the incumbent's, both right at all times with probability 1 - alpha.

    What the bets have not refuted, for one tally int[S, 2, 2]. From -1 to 1 where next to nothing is known.
    """
    swapped = Strata(strata.p, 1 - strata.m, strata.stages)  # what was bad is good: the difference has the other sign
    return -_upper(counts[..., ::-1], swapped, alpha / 2), _upper(counts, strata, alpha / 2)


def _upper(counts: Ints, strata: Strata, alpha: float) -> float:
    low, high, wanted = -1.0, 1.0, math.log(1 / alpha)
    while high - low > 1e-4:
        middle = (low + high) / 2
        passed = float(margin_log_e(counts, strata, middle)) >= wanted
        low, high = (low, middle) if passed else (middle, high)
    return high


def relative_margin_table(strata: Strata, rho: float, ratios: ArrayLike = RATIOS) -> Floats:
    """Logs of the factors, [..., K, S, 2, 2]: only bad outcomes count. Raises ValueError unless rho > 0."""
    if not rho > 0:
        raise ValueError(f"a relative margin is more than 0, not {rho}")
    p, _, ratio = strata.slots(ratios)
    null, bet = ((p * r) / (p * r + 1 - p) for r in (1 + rho, ratio))
    bad = np.stack([np.log((1 - bet) / (1 - null)), np.log(bet / null)], -1)
    return np.stack([np.zeros_like(bad), bad], -1)


def relative_margin_log_e(counts: Ints, strata: Strata, rho: float, ratios: ArrayLike = RATIOS) -> Floats:
    """log E that the candidate's rate is below 1 + rho times the incumbent's, for rare outcomes: [...]."""
    return mixture(counts, relative_margin_table(strata, rho, ratios))
