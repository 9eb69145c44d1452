"""A public that comes back: who was the incumbent's and whose window is over enters again where the share has risen meanwhile."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bench.rollouts.world import Drawn, World, tempers
from deploy.rules.assignment import WINDOW_US
from feedback.statistics.entering import entry_share
from feedback.statistics.plan import DAY_US, Plan
from feedback.statistics.replaying import Units
from feedback.statistics.tallies import Floats, Ints

MONTH = 30

SELDOM = 4.0
"""How many users come seldom: each one's chance to come on a day is drawn from Beta(1, 4), a fifth on average."""


@dataclass(frozen=True, eq=False)
class Enrolled:
    """A rollout's enrolments, in order of assignment, [N] each."""

    user: Ints
    opened_us: Ints
    stage: Ints
    probability: Floats
    """With which each came to the candidate's arm."""
    arm: Ints


@dataclass(frozen=True)
class Returning(World):
    """As `World`, but for who comes; `per_day` is not read."""

    monthly: int = 10_000
    """Users who come at least once a month."""

    @property
    def users(self) -> int:
        """Those who come more seldom included."""
        return round(self.monthly / (1 - SELDOM / (SELDOM + MONTH)))

    def rollouts(self, plan: Plan, many: int, random: np.random.Generator) -> Iterator[Units]:
        """One by one, for no two have as many units."""
        for _ in range(many):
            enrolled = self.enrolled(self.visits(random), random.random(self.users))
            temper = tempers((self.users,), random)[enrolled.user][None]
            members = {
                name: (random.random(self.users) < part)[enrolled.user][None] for name, part in self.sliced.items()
            }
            yield self.told(plan, drawn(enrolled, temper, members), random)

    def visits(self, random: np.random.Generator) -> Iterator[tuple[Ints, Ints]]:
        """Day by day, which users come and when first."""
        often = random.beta(1, SELDOM, self.users)
        for day in range(self.days):
            user = np.flatnonzero(random.random(self.users) < often)
            yield user, ((day + random.random(len(user))) * DAY_US).astype(np.int64)

    def enrolled(self, visits: Iterator[tuple[Ints, Ints]], place: Floats) -> Enrolled:
        """What `deploy.rules.assignment.enrol` does with these visits and each user's place within the rollout."""
        last_us, seen, candidate = np.full(len(place), -WINDOW_US), np.zeros(len(place)), np.zeros(len(place), bool)
        columns: list[tuple[Ints, Ints, Ints, Floats, Ints]] = []
        stages = np.repeat(np.arange(len(self.shares)), [days for _, days in self.shares])
        for day, (user, at_us) in enumerate(visits):
            stage = int(stages[day])
            share = self.shares[stage][0]
            enters = ~candidate[user] & (at_us >= last_us[user] + WINDOW_US) & (share > seen[user])
            user, at_us = user[enters], at_us[enters]
            probability = np.zeros(len(user))
            for low in {0.0, *(share for share, _ in self.shares[:stage])}:
                probability[seen[user] == low] = entry_share(share, low or None)
            candidates = place[user] < share
            columns.append((user, at_us, np.full(len(user), stage), probability, candidates.astype(np.int64)))
            last_us[user], seen[user], candidate[user] = at_us, share, candidates
        user, at_us, stage_of, probability, arm = (np.concatenate(column) for column in zip(*columns, strict=True))
        order = at_us.argsort(kind="stable")
        return Enrolled(user[order], at_us[order], stage_of[order], probability[order], arm[order])


def drawn(enrolled: Enrolled, temper: Floats, members: Mapping[str, NDArray[np.bool_]]) -> Drawn:
    """As the service counts them: who entered at one stage with one probability is a stratum."""
    kind = 2 * enrolled.stage + enrolled.probability
    _, begins, stratum = np.unique(kind, return_index=True, return_inverse=True)
    share, stage = enrolled.probability[begins], enrolled.stage[begins]
    return Drawn(enrolled.opened_us, stratum, enrolled.arm[None], share, stage, temper, members)
