"""What a training could not learn, and what its figures can't say: sentences for the report. No torch."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from feedback.records import Demonstration, PreferencePair, UnpairedLabel
from feedback.texts import is_blank
from models.snapshot import SnapshotData

FEW = 20
"""Held-out labels, pairs or thumbs, below which figures on them are a guess."""
_MOSTLY = 0.5


def unlearned(data: SnapshotData, tokens: Callable[[str], int], samples: int, cut: int, pairs: int) -> list[str]:
    """Sentences on the train split's labels, and on the `samples` for best-of pairs: `cut` at their limit, `pairs` made."""
    return [*_labels(data), *_replies(data, tokens), *_samples(samples, cut, pairs)]


def on_gate_labels(kind: str, count: int, wanted: int) -> str | None:
    """What the figures on `count` gate labels, `wanted` of them for a wanted reply, can't say (of pairs, all are)."""
    if count < FEW:
        return f"{count} gate labels ({kind}) are few, {FEW} are wanted: the reward model's figures on them are a guess"
    if kind == "thumbs" and wanted in (0, count):
        return f"all {count} gate thumbs are of one kind: whether the reward model tells good from bad can't be told"
    return None


def _labels(data: SnapshotData) -> Iterator[str]:
    labels = [x for x in data.labels if x.split == "train" and x.weight > 0]
    pairs = [x for x in data.pairs if x.split == "train" and x.weight > 0]
    if labels and all(x.desirable == 1 for x in labels):
        yield f"all {len(labels)} unpaired labels are of wanted replies: what is not wanted can't be learned from them"
    elif labels and all(x.desirable == 0 for x in labels):
        yield f"all {len(labels)} unpaired labels are of unwanted replies: what is wanted can't be learned from them"
    elif len(labels) == 1:
        yield "the one unpaired label was left out of the policy update, which needs two"
    even = sum(x.preference == 0.5 for x in pairs)
    if even:
        yield f"{even} of {len(pairs)} pairs say that neither reply is better: they only hold replies equally likely"


def _replies(data: SnapshotData, tokens: Callable[[str], int]) -> Iterator[str]:
    rows: list[PreferencePair | UnpairedLabel | Demonstration] = [*data.pairs, *data.labels, *data.demonstrations]
    used = [x for x in rows if x.split == "train" and x.weight > 0]
    replies = [r for x in used for r in ([x.chosen, x.rejected] if isinstance(x, PreferencePair) else [x.reply])]
    written = [reply for reply in replies if not is_blank(reply)]
    if written and all(tokens(reply) <= 1 for reply in written):
        yield f"all {len(written)} replies are of one token: how to go on after it can't be learned"


def _samples(samples: int, cut: int, pairs: int) -> Iterator[str]:
    if samples and cut > _MOSTLY * samples:
        yield f"{cut} of {samples} samples were cut at their limit, and are learned as beginnings: raise policy.sample_tokens"
    if samples and not pairs:
        yield f"among {samples} samples the reward model found no pair of which it is sure enough"
