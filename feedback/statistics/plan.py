"""What a rollout was declared to look at, before its first unit: metrics, ages, slices, stages, alphas. Its hash goes into the seal."""

from __future__ import annotations

import dataclasses
import hashlib
import math
from dataclasses import dataclass
from typing import Literal

from feedback.durable import canonical
from feedback.statistics import harm, margin, sample_ratio

HOUR_US = 3_600_000_000
DAY_US = 24 * HOUR_US


@dataclass(frozen=True)
class Metric:
    """A bad outcome that a unit has or has not. Of a guardrail one margin is given: how much worse is still "not worse"."""

    name: str
    kind: Literal["guardrail", "signal"] = "guardrail"
    """Harm to a guardrail rolls back; to a signal it pauses, until the evidence is gone again."""
    margin: float | None = None
    """A difference of rates."""
    relative_margin: float | None = None
    """A part of the incumbent's rate, for rare outcomes: 0.5 allows half as many again."""

    def __post_init__(self) -> None:
        if self.kind == "guardrail" and (self.margin is None) == (self.relative_margin is None):
            raise ValueError(f"{self.name}: a guardrail needs a margin or a relative margin, one of the two")
        if (self.margin is not None and not 0 < self.margin < 1) or (
            self.relative_margin is not None and not self.relative_margin > 0
        ):
            raise ValueError(f"{self.name}: a margin lies between 0 and 1, a relative one above 0")


@dataclass(frozen=True)
class Stage:
    """A share of the units, and how long it lasts: at its maximum without enough evidence the rollout holds and pages."""

    share: float
    minimum_us: int
    maximum_us: int
    evidence: bool = False
    """Leaving it wants every guardrail shown to be not worse."""


def log_promotion(alpha: float, attempt: int) -> float:
    """log E that a candidate's proof has to reach at its how-manieth attempt, so that all of them together may err by alpha."""
    part = 0.8 if attempt == 1 else 0.2 * 0.5 ** (attempt - 1)
    return math.log(1 / (alpha * part))


STAGES = (
    Stage(0.05, 4 * DAY_US, 28 * DAY_US),
    Stage(0.25, 4 * DAY_US, 28 * DAY_US),
    Stage(0.50, 4 * DAY_US, 28 * DAY_US, evidence=True),
    Stage(0.95, 3 * DAY_US, 28 * DAY_US),
)
"""At a share of 1 no incumbent is left to compare with: before it the rollout stays at 95% for a window."""


@dataclass(frozen=True)
class Watch:
    """A metric looked at for harm, over all units or a slice of them, at one age, with the part of alpha that it may spend."""

    metric: str
    age_us: int
    slice: str | None
    alpha: float

    @property
    def name(self) -> str:
        """Its name in reports: `errors at 72 h`, `errors at 72 h in lang:es`."""
        where = f" in {self.slice}" if self.slice is not None else ""
        return f"{self.metric} at {self.age_us / HOUR_US:g} h{where}"

    @property
    def log_threshold(self) -> float:
        """log E from which it says that there is harm."""
        return math.log(1 / self.alpha)


@dataclass(frozen=True)
class Plan:
    """Everything that decides, so that whoever replays the same units comes to the same decisions."""

    metrics: tuple[Metric, ...]
    ages_us: tuple[int, ...] = (HOUR_US, DAY_US, 3 * DAY_US)
    slices: tuple[str, ...] = ()
    stages: tuple[Stage, ...] = STAGES
    grace_us: int = HOUR_US
    """After a window's end: what was sent within the window and arrives in it still counts."""
    harm_alpha: float = 0.01
    """Of all rollbacks of a harmless candidate together, per rollout."""
    promotion_alpha: float = 0.05
    """Of promoting a candidate that is worse by the margin in some guardrail, over all its attempts."""
    ratio_alpha: float = 0.0005
    """Of each sample ratio: of the assigned units, of the closed ones and of those with late events."""
    attempt: int = 1
    """The how-manieth rollout of this candidate it is."""
    shifts: tuple[float, ...] = harm.SHIFTS
    fractions: tuple[float, ...] = margin.FRACTIONS
    ratios: tuple[float, ...] = margin.RATIOS
    tilts: tuple[float, ...] = sample_ratio.TILTS

    def __post_init__(self) -> None:
        if not self.metrics or len({metric.name for metric in self.metrics}) < len(self.metrics):
            raise ValueError("a plan needs metrics, each with a name of its own")
        shares = [stage.share for stage in self.stages]
        if not shares or shares != sorted(set(shares)) or not 0 < shares[0] <= shares[-1] < 1:
            raise ValueError(f"the shares of a plan rise, within 0 and 1: not {shares}")
        if not any(stage.evidence for stage in self.stages):
            raise ValueError("no stage of the plan wants evidence: nothing could ever be promoted by it")
        if self.attempt < 1 or not self.ages_us:
            raise ValueError("a plan needs an age, and its attempts count from 1")

    def watches(self, kind: Literal["guardrail", "signal"]) -> tuple[Watch, ...]:
        """Every look for harm: half of alpha for all units together, half for the slices (Bonferroni with weights)."""
        names = [metric.name for metric in self.metrics if metric.kind == kind]
        many = max(1, len(names) * len(self.ages_us))
        whole = self.harm_alpha / 2 if self.slices else self.harm_alpha
        parts: list[tuple[str | None, float]] = [(None, whole / many)]
        parts += [(name, self.harm_alpha / 2 / len(self.slices) / many) for name in self.slices]
        return tuple(Watch(name, age, where, alpha) for where, alpha in parts for name in names for age in self.ages_us)

    @property
    def every_watch(self) -> tuple[Watch, ...]:
        """All looks for harm, of guardrails and of signals."""
        return (*self.watches("guardrail"), *self.watches("signal"))

    @property
    def proofs(self) -> tuple[tuple[Metric, Watch], ...]:
        """What a promotion rests on: each guardrail with its look over all units at the longest age."""
        by_name = {metric.name: metric for metric in self.guardrails}
        watches = self.watches("guardrail")
        return tuple((by_name[w.metric], w) for w in watches if w.slice is None and w.age_us == self.ages_us[-1])

    @property
    def guardrails(self) -> tuple[Metric, ...]:
        """What a promotion has to be not worse in."""
        return tuple(metric for metric in self.metrics if metric.kind == "guardrail")

    @property
    def evidence_stage(self) -> int:
        """The number of the first stage from which the evidence may promote."""
        return next(number for number, stage in enumerate(self.stages) if stage.evidence)

    @property
    def log_promotion(self) -> float:
        """log E that each guardrail has to reach: a candidate that comes again and again gets ever less of alpha."""
        return log_promotion(self.promotion_alpha, self.attempt)

    @property
    def sha256(self) -> str:
        """Names the plan, 64 hex digits."""
        return hashlib.sha256(canonical(dataclasses.asdict(self))).hexdigest()
