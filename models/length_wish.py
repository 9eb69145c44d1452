"""Whether people wish for longer or shorter replies, or the reward model only mistakes length for worth. No torch.

A reward model's rewards have a trend with length. Where its labels say nothing of length, that is a mistake which best-of
pairs would teach as a wish; where people do prefer shorter replies it is what they taught. Held-out labels by people tell
the two apart: how far does the part of a reward that follows length predict them, beside the part that does not?
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from models.logistic import fit_logistic

_RIDGE = np.array([1e-2, 1.0, 1e-2])  # of rewards freed of length, of what follows length, of the offset


class Measured(Protocol):
    """A reply's reward and its length in tokens."""

    @property
    def reward(self) -> float: ...
    @property
    def length(self) -> int: ...


def length_trend(groups: Sequence[Sequence[Measured]]) -> float:
    """Reward per token of length: least squares over replies, each against the mean of its prompt."""
    above = below = 0.0
    for group in groups:
        length = sum(s.length for s in group) / len(group)
        reward = sum(s.reward for s in group) / len(group)
        above += sum((s.length - length) * (s.reward - reward) for s in group)
        below += sum((s.length - length) ** 2 for s in group)
    return above / below if below else 0.0


def confirmed_share(points: Sequence[tuple[float, float, float, float, float]], trend: float) -> float:
    """The share, 0 to 1, of a reward's `trend` per token that labels confirm.

    Points are (reward or margin, length or difference in tokens, 1 or 0 for the offset, probability, weight). Logistic
    regression on the reward freed of the trend, and on the trend's own part: as much as the second counts beside the first
    is confirmed. Its prior is that nothing is (a normal one, of the size of a reward): a few labels don't confirm a trend,
    and without any none of it is.
    """
    if not points or not trend:
        return 0.0
    margins, lengths, ones, targets, weights = (np.array(column) for column in zip(*points, strict=True))
    lengths = lengths - ones * (lengths @ (ones * weights) / max(ones @ weights, 1e-9))
    by_length = trend * lengths
    columns = np.stack([margins - by_length, by_length, ones], axis=1)
    free, following, _ = fit_logistic(columns, targets, weights, np.array([1.0, 0.0, 0.0]), _RIDGE)
    return float(np.clip(following / free, 0, 1)) if free > 0 else 0.0
