"""What an ensemble's spread is worth, as pure functions of its members' rewards and of what people said.

A label's error is |P(wanted) - label|, a pair's is the probability given to the reply that people did not choose; the mean
reward decides both. A pair's spread is that of the *margin*: what members add to both replies alike says nothing of which is
better. Members scale alike, so a large margin spreads more and is more often right, and the raw correlation of spread with
error says little. What counts is whether of two replies (pairs) that the mean is equally sure of the wider is the more often
wrong: the rank correlation at equal confidence.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

Array = np.ndarray


@dataclass(frozen=True)
class Held:
    """Of n held-out labels (or pairs): conversations, members' rewards (or margins) [n, members], P(what people said) [n]."""

    conversations: Sequence[str]
    rewards: Array
    said: Array
    worth: Array
    """By how much the reply that people chose is worth more, as best-of has it (mean less spread); NaN for a label."""

    @property
    def spread(self) -> Array:
        spread: Array = self.rewards.std(axis=1)
        return spread

    @property
    def error(self) -> Array:
        return 1 - self.said

    def at(self, rows: Array) -> Held:
        """These rows only."""
        return Held([self.conversations[n] for n in rows], self.rewards[rows], self.said[rows], self.worth[rows])


@dataclass(frozen=True)
class Estimate:
    """A figure with its 95% interval over conversations."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.2f} [{self.low:.2f}, {self.high:.2f}]" if self.value == self.value else "-"


def accuracy(held: Held) -> float:
    """The share where the mean reward says what people said; half where it says nothing."""
    return float(((held.said > 0.5) + 0.5 * (held.said == 0.5)).mean())


def accuracy_of_worth(held: Held) -> float:
    """Of pairs the share where best-of, which takes the spread off the mean, would choose as people did."""
    return float((0.5 + 0.5 * np.sign(held.worth)).mean())


def correlation_of_members(held: Held) -> float:
    """Pearson's correlation of two members' rewards, the mean over all two."""
    found = [_pearson(held.rewards[:, a], held.rewards[:, b]) for a, b in combinations(range(held.rewards.shape[1]), 2)]
    return float(np.mean(found))


def spread_with_error(held: Held) -> float:
    """Spearman's correlation."""
    return _pearson(ranks(held.spread), ranks(held.error))


def spread_at_equal_confidence(held: Held) -> float:
    """The same once what the mean's own confidence explains, in ranks, was taken out of both."""
    confidence = ranks(np.abs(held.said - 0.5))
    columns = np.stack([np.ones_like(confidence), confidence], axis=1)
    spread, error = (
        side - columns @ np.linalg.lstsq(columns, side, rcond=None)[0]
        for side in (ranks(held.spread), ranks(held.error))
    )
    return _pearson(spread, error)


def spread_finds_wrong(held: Held) -> float:
    """Area under the ROC curve of spread for the mean being wrong: the chance that a wrong one has the larger spread."""
    return area(held.spread, held.said < 0.5)


def doubt_finds_wrong(held: Held) -> float:
    """The same for what costs nothing: how little confidence the mean itself has."""
    return area(-np.abs(held.said - 0.5), held.said < 0.5)


FIGURES: dict[str, Callable[[Held], float]] = {
    "accuracy": accuracy,
    "less spread": accuracy_of_worth,
    "members' correlation": correlation_of_members,
    "spread with error": spread_with_error,
    "at equal confidence": spread_at_equal_confidence,
    "AUROC of spread": spread_finds_wrong,
    "AUROC of doubt": doubt_finds_wrong,
}


def estimate(figure: Callable[[Held], float], folds: Sequence[Held], resamples: int) -> Estimate:
    """The figure's mean over the folds, and its interval: each fold's conversations are drawn again with replacement.

    Draws depend on the fold's conversations alone, so those of two ensembles on the same folds are the same.
    """
    draws = [_mean([figure(part.at(again)) for part, again in drawn]) for drawn in _drawn(folds, resamples)]
    return _estimate(_mean([figure(held) for held in folds]), draws)


def difference(
    figure: Callable[[Held], float], folds: Sequence[Held], others: Sequence[Held], resamples: int
) -> Estimate:
    """By how much the figure is larger than that of `others`, with their interval over the same draws."""
    both = zip(_drawn(folds, resamples), _drawn(others, resamples), strict=True)
    draws = [
        _mean([figure(part.at(again)) for part, again in mine])
        - _mean([figure(part.at(again)) for part, again in theirs])
        for mine, theirs in both
    ]
    return _estimate(_mean([figure(held) for held in folds]) - _mean([figure(held) for held in others]), draws)


def ranks(values: Array) -> Array:
    """From 1; equals share the mean of theirs.

    >>> ranks(np.array([5.0, 1.0, 5.0])).tolist()
    [2.5, 1.0, 2.5]
    """
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(count)
    mean: Array = (last - (count - 1) / 2)[place]
    return mean


def area(scores: Array, positive: Array) -> float:
    """Area under the ROC curve; NaN where all are of one kind.

    >>> area(np.array([3.0, 1.0, 2.0]), np.array([True, False, True]))
    1.0
    """
    of, rest = int(positive.sum()), int((~positive).sum())
    if not of or not rest:
        return float("nan")
    return float((ranks(scores)[positive].sum() - of * (of + 1) / 2) / (of * rest))


def _pearson(a: Array, b: Array) -> float:
    return float(np.corrcoef(a, b)[0, 1]) if a.std() > 0 and b.std() > 0 else float("nan")


def _drawn(folds: Sequence[Held], resamples: int) -> list[list[tuple[Held, Array]]]:
    places = []
    for held in folds:
        rows = defaultdict(list)
        for row, conversation in enumerate(held.conversations):
            rows[conversation].append(row)
        places.append([np.array(rows[conversation]) for conversation in sorted(rows)])
    chance = np.random.default_rng(0)
    return [
        [(held, np.concatenate([each[n] for n in chance.integers(0, len(each), len(each))]))
         for held, each in zip(folds, places, strict=True)]
        for _ in range(resamples)
    ]  # fmt: skip


def _mean(values: Sequence[float]) -> float:
    known = [
        value for value in values if value == value
    ]  # a fold where nothing was wrong says nothing of what finds it
    return float(np.mean(known)) if known else float("nan")


def _estimate(value: float, draws: Sequence[float]) -> Estimate:
    known = [draw for draw in draws if draw == draw]
    low, high = np.quantile(known, [0.025, 0.975]) if known else (float("nan"), float("nan"))
    return Estimate(value, float(low), float(high))
