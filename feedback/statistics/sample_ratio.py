"""Evidence that units did not come to the arms as they were drawn: then no other figure of the rollout means anything.

Under the null the arm is a coin with the stratum's share. A mismatch holds and pages; it does not roll back, for it says that
something is broken between the draw and the count, not who is worse.

Source: Lindon, Malek, Anytime-valid inference for multinomial count data, arXiv 2011.03567.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from feedback.statistics.tallies import CANDIDATE, Floats, Ints, Strata, log_mean_exp

TILTS = (-0.8, -0.4, -0.2, -0.1, -0.05, 0.05, 0.1, 0.2, 0.4, 0.8)
"""Of the log odds of the candidate's arm."""

LATE_TILTS = (-1.6, -0.8, -0.4, -0.2, 0.2, 0.4, 0.8, 1.6)
"""The same, beyond LATE_SLACK, of units with late news."""

LATE_SLACK = math.log(2)
"""So far from the draw the log odds may be of units with late news: users of a better arm have less to tell, also late."""

Counted = Literal["assigned", "closed", "late"]
"""Which units: all of them, those whose window is over, those of which something came too late to count."""


@dataclass(frozen=True)
class SampleRatio:
    """How units came to the arms, beside how they were drawn."""

    counted: Counted
    candidate: int
    of: int
    expected: float
    """Of the candidate's, were the draw kept."""
    log_e: float
    """log E that it was not."""
    log_needed: float

    @property
    def mismatch(self) -> bool:
        """Whether there is enough evidence to trust nothing else."""
        return self.log_e >= self.log_needed


def sample_ratio_table(strata: Strata, tilts: ArrayLike = TILTS, slack: float = 0.0) -> Floats:
    """Logs of the factors, [..., K, S, 2] by tilt, stratum and arm.

    `slack`: how far the log odds may be from the draw on either side. Each bet is on a tilt beyond, against that bound: no true odds
    within make any of them worth more, for its factor rises with the odds.
    """
    p, _, tilt = strata.slots(tilts)
    bound = np.sign(tilt) * slack
    null, tilted = _tilted(p, bound), _tilted(p, bound + tilt)
    return np.stack([np.log((1 - tilted) / (1 - null)), np.log(tilted / null)], -1)


def _tilted(p: Floats, tilt: Floats) -> Floats:
    odds = p * np.exp(tilt)
    return np.asarray(odds / (odds + 1 - p), float)


def late_ratio_table(strata: Strata) -> Floats:
    """`sample_ratio_table` of units with late news."""
    return sample_ratio_table(strata, LATE_TILTS, LATE_SLACK)


def sample_ratio_log_e(assigned: Ints, strata: Strata, tilts: ArrayLike = TILTS) -> Floats:
    """log E for units by stratum and arm, int[..., S, 2]: [...]."""
    return _log_e(assigned, sample_ratio_table(strata, tilts))


def _log_e(units: Ints, table: Floats) -> Floats:
    return log_mean_exp((units[..., None, :, :] * table).sum(axis=(-2, -1)))


def sample_ratio(counted: Counted, units: Ints, strata: Strata, alpha: float, tilts: ArrayLike = TILTS) -> SampleRatio:
    """Of units by stratum and arm, int[S, 2]; a mismatch of units that were drawn well is found with probability alpha at most, ever."""
    table = late_ratio_table(strata) if counted == "late" else sample_ratio_table(strata, tilts)
    return SampleRatio(
        counted,
        candidate=int(units[:, CANDIDATE].sum()),
        of=int(units.sum()),
        expected=float((units.sum(-1) * strata.p).sum()),
        log_e=float(_log_e(units, table)),
        log_needed=math.log(1 / alpha),
    )
