"""Which gate prompts train has seen too: what many people ask stays in both, and figures are told for either kind. No torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import sqrt
from statistics import NormalDist, fmean, stdev

from feedback.dataset.near_duplicates import NearDuplicates, context_key
from feedback.dataset.tables import Record
from feedback.records import Message
from feedback.settings import WindowSettings
from models.snapshot import SnapshotData

Seen = Callable[[Sequence[Message]], bool]


def seen_in_train(data: SnapshotData) -> Seen:
    """Whether a prompt nearly duplicates one of the train split, as the window tells prompts apart."""
    alike = NearDuplicates(WindowSettings().near_duplicate)
    rows: list[Record] = [*data.turns, *data.pairs, *data.labels, *data.demonstrations]
    for row in rows:
        if row.split == "train":
            alike.add(context_key(row.prompt))
    return lambda prompt: alike.first_like(context_key(prompt)) is not None


def mean_interval(values: Sequence[float]) -> tuple[float, float] | None:
    """Bounds of the mean at 95%, by the normal distribution; None where fewer than two values tell nothing of their spread."""
    if len(values) < 2:
        return None
    half = NormalDist().inv_cdf(0.975) * stdev(values) / sqrt(len(values))
    return fmean(values) - half, fmean(values) + half
