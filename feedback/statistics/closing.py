"""When a unit's window is over, and what its outcome then is: frozen, so that no late event ever revises a decision.

A unit closes at opened + age + grace. An event counts where it happened within the age and arrived before the unit closed; told twice or
out of order it counts the same. What arrives later is dropped, and counted as late.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from feedback.statistics.tallies import Ints


@dataclass(frozen=True, eq=False)
class Outcomes:
    """Of the units that have closed, in order of assignment."""

    y: Ints
    """1 where a bad event counts, [N]."""
    late: int
    """Events of these units that arrived after their window had closed."""


def close(
    opened_us: Ints, unit: Ints, at_us: Ints, arrived_us: Ints, age_us: int, grace_us: int, now_us: int
) -> Outcomes:
    """The outcomes of the units that are closed by now, of `opened_us` [N], rising; bad events [E] name their unit by its number.

    Raises ValueError where `opened_us` falls: units are given in order of assignment.
    """
    if (np.diff(opened_us) < 0).any():
        raise ValueError("units are given in order of assignment")
    closed = int(np.searchsorted(opened_us, now_us - age_us - grace_us, side="right"))
    of_closed: NDArray[np.bool_] = unit < closed
    unit, at_us, arrived_us = unit[of_closed], at_us[of_closed], arrived_us[of_closed]
    within, in_time = counting(opened_us[unit], at_us, arrived_us, age_us, grace_us)
    y = np.zeros(closed, np.int64)
    y[unit[within & in_time]] = 1
    return Outcomes(y, int((within & ~in_time).sum()))


def counting(
    opened_us: Ints, at_us: Ints, arrived_us: Ints, age_us: int, grace_us: int
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Of each event whether it happened within its unit's window, and whether it arrived before that closed."""
    within = (opened_us <= at_us) & (at_us < opened_us + age_us)
    return within, arrived_us <= opened_us + age_us + grace_us
