"""Which prompts train has seen, and how far a mean may be off."""

from __future__ import annotations

import pytest

from models.overlap import mean_interval, seen_in_train
from models.snapshot import SnapshotData
from tests.models.snapshots import pair, said, thumb, turn


def test_a_prompt_of_any_table_of_train_is_seen_however_it_is_written_and_one_of_another_split_is_not() -> None:
    data = SnapshotData(
        "s",
        "sha256:0",
        [pair(1, "train", said("Where is my parcel now?"), "a", "b")],
        [thumb(2, "train", said("Can I send it back to you?"), "a", True)],
        [],
        [turn(3, "train", said("Do you ship to Graz by rail?"), "a"), turn(4, "gate", said("Who are you today?"), "a")],
    )
    seen = seen_in_train(data)
    for prompt in ("where is  MY parcel now", "Can I send it back to you?", "Do you ship to Graz by rail?"):
        assert seen(said(prompt)), prompt
    assert not seen(said("Who are you today?"))
    assert not seen(said("Something that nobody has asked before."))


def test_only_the_last_question_counts_as_in_the_window() -> None:
    data = SnapshotData("s", "sha256:0", [pair(1, "train", said("Where is my parcel now?"), "a", "b")], [], [], [])
    assert seen_in_train(data)([{"role": "system", "content": "You help."}, *said("Where is my parcel now?")])


def test_the_interval_of_a_mean_is_that_of_its_spread() -> None:
    lower, upper = mean_interval([1.0, 2.0, 3.0]) or (0.0, 0.0)
    assert (lower, upper) == (pytest.approx(2 - 1.96 / 3**0.5, abs=1e-3), pytest.approx(2 + 1.96 / 3**0.5, abs=1e-3))
    assert mean_interval([1.0]) is None
