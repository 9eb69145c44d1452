"""What others would have decided on the same units, by their published rules: for harm in one metric, at one age.

Each pools the arms over the whole rollout, as these tools do, and knows of an outcome when its unit has closed.
"""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np

from feedback.statistics.plan import DAY_US
from feedback.statistics.replaying import first
from feedback.statistics.tallies import Floats, Ints

Z99 = NormalDist().inv_cdf(0.99)
Z975 = NormalDist().inv_cdf(0.975)


def running_z(arm: Ints, y: Ints) -> Floats:
    """After each unit, by how many standard errors the candidate's rate is above the incumbent's, [R, N]: two proportions, pooled."""
    n1, n0 = np.cumsum(arm, 1), np.cumsum(1 - arm, 1)
    bad1, bad0 = np.cumsum(arm * y, 1), np.cumsum((1 - arm) * y, 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        pooled = (bad1 + bad0) / (n1 + n0)
        z = (bad1 / n1 - bad0 / n0) / np.sqrt(pooled * (1 - pooled) * (1 / n1 + 1 / n0))
    return np.where(np.isfinite(z) & (bad1 + bad0 >= 10) & (n1 >= 30), z, 0.0)


def once(z: Floats) -> Ints:
    """A test at 1%, at the end."""
    return np.where(z[:, -1] >= Z99, z.shape[1] - 1, z.shape[1])


def always(z: Floats) -> Ints:
    """The same test, looked at with each unit: the unit at which it rolls back, N for never."""
    return first(z >= Z99)


def thresholds(opened_us: Ints, arm: Ints, y: Ints, factor: float = 1.5, limit: int = 5) -> Ints:
    """A canary controller: in each hour the candidate's rate against the incumbent's, times a factor; five failures roll back.

    The shape of Flagger's analysis (interval, threshold, failures) and Argo Rollouts' (failureLimit), whose factor users choose.
    """
    hour = opened_us * 24 // DAY_US
    starts = np.flatnonzero(np.diff(hour, prepend=-1))
    sums = [np.add.reduceat(part, starts, 1) for part in (arm, 1 - arm, arm * y, (1 - arm) * y)]
    with np.errstate(divide="ignore", invalid="ignore"):
        failed = (sums[0] >= 1) & (sums[1] >= 1) & (sums[2] / sums[0] > factor * sums[3] / sums[1])
    at = first(np.cumsum(failed, 1) >= limit)
    return np.where(
        at < len(starts), np.append(starts[1:], len(opened_us))[np.minimum(at, len(starts) - 1)] - 1, len(opened_us)
    )


def growthbook(opened_us: Ints, z: Floats, days: int) -> tuple[Ints, Ints]:
    """GrowthBook's decision framework, "do no harm": looked at daily, a guardrail whose 95% interval lies above zero rolls back.

    At the planned end whatever is not significantly worse ships: the threshold is always zero. The units of rollback and of shipping.
    """
    looks = np.searchsorted(opened_us, np.arange(1, days + 1) * DAY_US, side="left") - 1
    at = first(z[:, looks] >= Z975)
    many = z.shape[1]
    rollback = np.where(at < len(looks), looks[np.minimum(at, len(looks) - 1)], many)
    return rollback, np.where(rollback == many, many - 1, many)


def sample_size(rate: float, worse: float, share: float) -> int:
    """Units of both arms that a test at 1% with power 95% needs: what `once` ought to be planned with."""
    z = Z99 + NormalDist().inv_cdf(0.95)
    variance = worse * (1 - worse) / share + rate * (1 - rate) / (1 - share)
    return math.ceil(z * z * variance / (worse - rate) ** 2)
