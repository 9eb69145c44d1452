"""Evidence that the candidate is not worse than by a margin: what a promotion needs of every guardrail.

The null is that it is worse by the margin or more; E >= 20 refutes it at 5%, whenever one looks. Every guardrail has to pass,
each at the whole alpha (intersection-union). Assumes what `harm` assumes.

Source: estimating means by betting, Waudby-Smith, Ramdas, arXiv 2010.09686, on inverse-propensity weighted differences; the
relative margin is the conditional test of two Poisson rates (Przyborowski, Wilenski 1940) as a likelihood ratio.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from feedback.statistics.tallies import Floats, Ints, Strata, mixture

FRACTIONS = (0.03, 0.06, 0.12, 0.25, 0.5, 0.9)
"""Of the largest bet that can't lose everything."""

RATIOS = (0.4, 0.55, 0.7, 0.8, 0.9, 1.0)
"""Of the candidate's rate to the incumbent's: what is bet on against the relative margin."""


def margin_table(strata: Strata, delta: float, fractions: ArrayLike = FRACTIONS) -> Floats:
    """Logs of the factors, [..., K, S, 2, 2]. Raises ValueError unless 0 < delta < 1."""
    if not 0 < delta < 1:
        raise ValueError(f"a margin is a difference of rates between 0 and 1, not {delta}")
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
