"""What the trials say: effects with intervals, facts lost, and whether each thing that was to be shown is shown. Pure.

An effect is the mean over held-out prompts of what a reply meets the wish better than the base's; its interval is a
bootstrap over prompts, of the pooled effect over seeds as well (each resampled: Owen 2007, the pigeonhole bootstrap).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bench.learning.prompts import Prompt
from bench.learning.wishes import Tokens, Wish
from models.sampling import Sampled

_DRAWS = 4_000
_MAY_LOSE = 2  # facts more than TRL
Floats = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True)
class Effect:
    """A mean with its 95% interval."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:+.2f} [{self.low:+.2f}, {self.high:+.2f}]"


@dataclass(frozen=True)
class Line:
    """What one base, wish and method came to over its seeds."""

    base: str
    wish: str
    method: str
    before: float
    """The base's mean score."""
    by_seed: Mapping[int, Effect]
    pooled: Effect
    picks: Sequence[int]
    edits: Sequence[int]
    base_right: Sequence[int]
    lost: Sequence[int]
    gained: Sequence[int]
    neutral_kl: Sequence[float]
    held: Sequence[Sequence[str]]
    differences: Floats
    """[seeds, prompts]"""


@dataclass(frozen=True)
class Verdict:
    """One thing that was to be shown: `met` is None where a trial is missing."""

    base: str
    wish: str
    claim: str
    met: bool | None
    why: str


def mean_scores(wish: Wish, prompts: Sequence[Prompt], replies: Sequence[Sequence[Sampled]], tokens: Tokens) -> Floats:
    """Each prompt's mean score over its replies; one that was cut counts as it is."""
    return np.array(
        [np.mean([wish.score(p, r.text, tokens) for r in group]) for p, group in zip(prompts, replies, strict=True)]
    )


def bootstrap(differences: Floats, seed: int = 0) -> Effect:
    """The mean of [seeds, prompts] with its interval: prompts are drawn again, and seeds where there are several."""
    chance = np.random.default_rng(seed)
    seeds, prompts = differences.shape
    drawn = np.empty(_DRAWS)
    for n in range(_DRAWS):
        rows, columns = chance.integers(0, seeds, seeds), chance.integers(0, prompts, prompts)
        drawn[n] = differences[rows][:, columns].mean()
    low, high = np.quantile(drawn, (0.025, 0.975))
    return Effect(float(differences.mean()), float(low), float(high))


def summarise(
    base: str,
    wish: Wish,
    method: str,
    prompts: Sequence[Prompt],
    tokens: Tokens,
    before: Mapping[int, Sequence[Sequence[Sampled]]],
    after: Mapping[int, Mapping[str, Any]],
) -> Line:
    """From the base's replies and the trials' results, by seed; `after` has at least one, with its replies as Sampled."""
    seeds = sorted(after)
    was = {seed: mean_scores(wish, prompts, before[seed], tokens) for seed in seeds}
    gains = {seed: mean_scores(wish, prompts, after[seed]["replies"], tokens) - was[seed] for seed in seeds}
    differences = np.stack([gains[seed] for seed in seeds])
    facts = [after[seed]["retention"]["facts"] for seed in seeds]
    return Line(
        base,
        wish.name,
        method,
        float(np.mean([was[seed].mean() for seed in seeds])),
        {seed: bootstrap(gains[seed][None]) for seed in seeds},
        bootstrap(differences),
        [after[seed]["picks"] for seed in seeds],
        [after[seed]["edits"] for seed in seeds],
        [fact["base_right"] for fact in facts],
        [len(fact["lost"]) for fact in facts],
        [len(fact["gained"]) for fact in facts],
        [after[seed]["retention"]["neutral_kl"] for seed in seeds],
        [after[seed]["held"] for seed in seeds],
        differences,
    )


def judge(ours: Line, theirs: Line | None, wanted_seeds: Sequence[int], knows_facts: bool) -> list[Verdict]:
    """Whether it learns the wish, not worse than TRL, and without forgetting more; what is missing is said."""
    whole = set(ours.by_seed) == set(wanted_seeds)
    beside = theirs is not None and set(theirs.by_seed) == set(ours.by_seed)
    found = [_learns(ours, whole)]
    if theirs is None or not beside:
        return [*found, Verdict(ours.base, ours.wish, "not behind TRL", None, "TRL's trials are missing")]
    found.append(_not_behind(ours, theirs, whole))
    return [*found, _kept(ours, theirs, whole)] if knows_facts else found


def _learns(ours: Line, whole: bool) -> Verdict:
    every = all(effect.low > 0 for effect in (*ours.by_seed.values(), ours.pooled))
    seeds = ", ".join(f"seed {seed} {effect}" for seed, effect in ours.by_seed.items())
    return Verdict(
        ours.base, ours.wish, "every interval is above zero", _met(every, whole), f"pooled {ours.pooled}; {seeds}"
    )


def _not_behind(ours: Line, theirs: Line, whole: bool) -> Verdict:
    width = ours.pooled.high - ours.pooled.low
    apart = bootstrap(ours.differences - theirs.differences)
    why = f"{ours.pooled.mean:+.2f} against {theirs.pooled.mean:+.2f}, width {width:.2f}; ours less TRL's, prompt by prompt {apart}"
    claim = "not below TRL's by more than its width"
    return Verdict(ours.base, ours.wish, claim, _met(ours.pooled.mean >= theirs.pooled.mean - width, whole), why)


def _kept(ours: Line, theirs: Line, whole: bool) -> Verdict:
    fine = [a <= b + _MAY_LOSE or bool(held) for a, b, held in zip(ours.lost, theirs.lost, ours.held, strict=True)]
    why = f"lost by seed {list(ours.lost)}, TRL {list(theirs.lost)}; held by the gate {[len(h) > 0 for h in ours.held]}"
    return Verdict(
        ours.base, ours.wish, "at most 2 facts more lost than TRL, or held by name", _met(all(fine), whole), why
    )


def _met(shown: bool, whole: bool) -> bool | None:
    """One seed that fails settles it; all that succeed do so only once none is missing."""
    return shown if whole or not shown else None
