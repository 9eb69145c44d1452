"""How long ago a stored moment was."""

from __future__ import annotations

import math

from deploy.rules.elapsed import AHEAD_S, elapsed_s

NOW_US = 1_800_000_000_000_000


def test_a_moment_that_has_been_is_so_long_ago() -> None:
    assert elapsed_s(NOW_US - 2_500_000, NOW_US) == 2.5


def test_a_little_ahead_is_now_and_far_ahead_is_nobody_knows_how_long_ago() -> None:
    assert elapsed_s(NOW_US + round(AHEAD_S * 1e6), NOW_US) == 0
    assert elapsed_s(NOW_US + round(AHEAD_S * 1e6) + 1, NOW_US) == math.inf
