"""Confidence intervals of a share."""

from __future__ import annotations

import math
from statistics import NormalDist


def wilson(share: float, n: int, confidence: float) -> tuple[float, float]:
    """Lower and upper bound of a share, each one-sided at this confidence: the score interval (Wilson 1927).

    Everything is possible where n is 0. With ties as halves it is conservative: they vary less than a share of ones and zeros does.

    >>> tuple(round(bound, 3) for bound in wilson(0.8, 10, 0.975))
    (0.49, 0.943)
    """
    if n == 0:
        return 0.0, 1.0
    z = NormalDist().inv_cdf(confidence)
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return max(0.0, centre - half), min(1.0, centre + half)
