"""Counts of closed units, from which every procedure on binary outcomes is computed: they merge by adding.

A unit is what was assigned: a user, or a conversation where none is known. It counts once, in the arm that it was assigned
(whatever served it then), in the stratum whose share held when it was opened, with one outcome that is frozen when its window closes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

INCUMBENT, CANDIDATE = 0, 1


@dataclass(frozen=True, eq=False)
class Strata:
    """Periods of one share, in order, each frozen when it was opened: [..., S] each.

    Raises ValueError where a share or a rate is not strictly between 0 and 1: at share 1 there is no concurrent arm.
    """

    p: Floats
    """The share of units that went to the candidate."""
    m: Floats
    """The rate of bad outcomes that was expected then, of the incumbent: only power depends on it, no guarantee."""
    stage: Ints | None = None
    """Which stage of the rollout each belongs to, from 0, never falling; None: each is a stage of its own."""

    def __post_init__(self) -> None:
        p, m = (np.atleast_1d(np.asarray(values, float)) for values in (self.p, self.m))
        if p.shape[-1] != m.shape[-1]:
            raise ValueError(f"{p.shape[-1]} shares and {m.shape[-1]} rates: each stratum has one of both")
        for name, values in (("share", p), ("rate", m)):
            if not ((values > 0) & (values < 1)).all():
                raise ValueError(f"a stratum's {name} must lie strictly between 0 and 1, not {values.tolist()}")
        stage = np.arange(p.shape[-1]) if self.stage is None else np.asarray(self.stage, np.int64)
        if stage.shape != p.shape[-1:] or stage[0] < 0 or (np.diff(stage) < 0).any():
            raise ValueError("a stratum's stage is a number from 0 that never falls")
        for field, array in (("p", p), ("m", m), ("stage", stage)):
            object.__setattr__(self, field, array)

    @property
    def stages(self) -> Ints:
        """The stage of each stratum, [S]."""
        assert self.stage is not None  # made so above
        return self.stage

    def __len__(self) -> int:
        return int(self.p.shape[-1])

    def slots(self, grid: ArrayLike) -> tuple[Floats, Floats, Floats]:
        """Shares and rates as [..., 1, S], and a grid as [K, 1], so that they combine to [..., K, S]."""
        return self.p[..., None, :], self.m[..., None, :], np.asarray(grid, float)[:, None]


def empty(strata: Strata, *lead: int) -> Ints:
    """Counts of no unit, int[..., S, 2, 2]: by stratum, arm and outcome (1 is bad)."""
    return np.zeros((*lead, len(strata), 2, 2), np.int64)


def add(counts: Ints, stratum: ArrayLike, arm: ArrayLike, y: ArrayLike) -> Ints:
    """The counts int[..., S, 2, 2] with these units: of shape [...] (one for each tally) or [..., N].

    `arm` is 1 for the candidate, `y` 1 for the bad outcome. Raises ValueError where there is no such stratum, arm or outcome.

    >>> add(np.zeros((1, 2, 2), int), [0, 0, 0], [1, 1, 0], [1, 0, 0]).tolist()
    [[[1, 0], [1, 1]]]
    """
    lead, strata = counts.shape[:-3], counts.shape[-3]
    stratum, arm, y = np.broadcast_arrays(np.asarray(stratum), np.asarray(arm), np.asarray(y))
    for name, values, many in (("stratum", stratum, strata), ("arm", arm, 2), ("outcome", y, 2)):
        if values.size and not np.isin(values, np.arange(many)).all():
            raise ValueError(f"{name}: a whole number from 0 to {many - 1} is needed")
    cell = ((stratum * 2 + arm) * 2 + y).astype(np.int64).reshape(*lead, -1)
    tally = np.arange(int(np.prod(lead, dtype=int))).reshape(*lead, 1) * strata * 4
    more = np.bincount((cell + tally).ravel(), minlength=counts.size)
    return np.asarray(counts + more.reshape(counts.shape), np.int64)


def log_mean_exp(logs: Floats, axes: int | tuple[int, ...] = -1) -> Floats:
    """log of the mean of exp over these axes, for wealth of any size: the mixture over a grid of bets."""
    top = logs.max(axis=axes, keepdims=True)
    mean = np.exp(logs - top).mean(axis=axes, keepdims=True)
    return np.asarray((np.log(mean) + top).squeeze(axes), float)


def mixture(counts: Ints, table: Floats) -> Floats:
    """log E, [...]: the mean over K bets of the product of their factors, `table` being the factors' logs [..., K, S, 2, 2]."""
    return log_mean_exp((counts[..., None, :, :, :] * table).sum(axis=(-3, -2, -1)))
