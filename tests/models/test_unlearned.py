"""What a training could not learn is a sentence of its report."""

from __future__ import annotations

from typing import Any

import msgspec

from models.snapshot import SnapshotData
from models.unlearned import unlearned
from tests.models.snapshots import pair, said, thumb


def told(labels: Any = (), pairs: Any = (), samples: int = 0, cut: int = 0, made: int = 0) -> list[str]:
    data = SnapshotData("s", "", list(pairs), list(labels), [], [])
    return unlearned(data, lambda text: len(text.split()), samples, cut, made)


def thumbs(*up: bool, reply: str = "two words") -> list[Any]:
    return [thumb(n, "train", said("a"), reply, one) for n, one in enumerate(up)]


def test_labels_of_one_kind_teach_one_kind() -> None:
    assert told(thumbs(True, True)) == [
        "all 2 unpaired labels are of wanted replies: what is not wanted can't be learned from them"
    ]
    assert told(thumbs(False, False, False)) == [
        "all 3 unpaired labels are of unwanted replies: what is wanted can't be learned from them"
    ]
    assert told(thumbs(True, False)) == []
    assert told([thumb(9, "gate", said("a"), "two words", True)]) == []


def test_pairs_of_which_neither_is_better_are_counted() -> None:
    even = msgspec.structs.replace(pair(1, "train", said("a"), "two words", "three more words"), preference=0.5)
    assert told(pairs=[even, pair(2, "train", said("a"), "two words", "three more words")]) == [
        "1 of 2 pairs say that neither reply is better: they only hold replies equally likely"
    ]


def test_replies_of_one_token_and_empty_ones_teach_no_more_than_that_token() -> None:
    rated = [*thumbs(True, False, reply="ok"), thumb(5, "train", said("a"), " ", False)]
    assert told(rated) == ["all 2 replies are of one token: how to go on after it can't be learned"]


def test_samples_that_are_mostly_cut_and_samples_that_give_no_pair_are_said() -> None:
    assert told(samples=32, cut=24, made=3) == [
        "24 of 32 samples were cut at their limit, and are learned as beginnings: raise policy.sample_tokens"
    ]
    assert told(samples=32, made=0) == ["among 32 samples the reward model found no pair of which it is sure enough"]
