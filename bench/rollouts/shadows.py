"""Shadow pairs: how many of people's labels it takes until the candidate is shown to be preferred, with a judge and without."""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass

import numpy as np

from feedback.statistics.shadow import shadow_add, shadow_empty, shadow_log_e


@dataclass(frozen=True)
class Shadow:
    """A candidate whose replies people prefer with probability `win`."""

    name: str
    win: float
    labels: int
    """Of people, at most."""
    judge: str = "none"
    """none: everything is asked of people; noisy: right in 74%; candidate: always for the candidate."""
    pi: float = 1.0
    at_least: float = 0.0
    at_most: float | None = None


SHADOWS = (
    Shadow("shadow .53", 0.53, 4_000, at_least=0.8),
    Shadow("shadow .55", 0.55, 1_500, at_least=0.8),
    Shadow("shadow .53 with a judge", 0.53, 4_000, "noisy", 0.2, at_least=0.8),
    Shadow("shadow .55 with a judge", 0.55, 1_500, "noisy", 0.2, at_least=0.8),
    Shadow("shadow .50", 0.50, 4_000, at_most=0.05),
    Shadow("shadow .50, judge always for the candidate", 0.50, 2_000, "candidate", 0.2, at_most=0.05),
)


def shadow_share(shadow: Shadow, rollouts: int, chunk: int) -> int:
    """In how many of the rollouts people were shown to prefer the candidate at 5% before the labels ran out."""
    random = np.random.default_rng([zlib.crc32(shadow.name.encode()), chunk])
    wealth, total, seen = shadow_empty(rollouts), np.full(rollouts, 0.5), 1
    for _ in range(round(shadow.labels / shadow.pi)):
        many = len(wealth)
        h = (random.random(many) < shadow.win).astype(float)
        f = np.ones(many) if shadow.judge == "candidate" else np.abs((random.random(many) > 0.74) - h)
        xi = random.random(many) < shadow.pi
        wealth = shadow_add(wealth, f, h, xi, np.full(many, shadow.pi), total / seen)
        total, seen = total + f, seen + 1
        if wealth.max(initial=0) >= math.log(20):  # their mean is no more
            going = shadow_log_e(wealth) < math.log(20)
            wealth, total = wealth[going], total[going]
    return rollouts - len(wealth)
