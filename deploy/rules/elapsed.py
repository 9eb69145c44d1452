"""How long ago a stored moment was, where the clock that stored it may have been wrong."""

from __future__ import annotations

import math

AHEAD_S = 300.0
"""So far may the clocks of two machines differ; a stored moment further ahead was stored by a clock that was wrong."""


def elapsed_s(since_us: int, now_us: int) -> float:
    """Seconds since a stored moment, for whoever waits for enough of them; never negative.

    A moment that lies ahead was stored by a clock that was ahead and came back. Nobody knows how long ago that was: infinitely,
    so that nothing waits until that moment comes.

    >>> elapsed_s(1_000_000, 3_500_000), elapsed_s(3_500_000, 1_000_000), elapsed_s(10**15, 0)
    (2.5, 0.0, inf)
    """
    seconds = (now_us - since_us) / 1e6
    return math.inf if seconds < -AHEAD_S else max(0.0, seconds)
