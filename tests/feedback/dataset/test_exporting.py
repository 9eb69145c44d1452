"""Rows as other programs train on them."""

from __future__ import annotations

from typing import Any

import pytest

from feedback.dataset.exporting import row_of
from feedback.records import PreferencePair, Provenance, UnpairedLabel

ASKED = [{"role": "user", "content": "hello"}]
COMMON: dict[str, Any] = {
    "id": "i", "prompt": ASKED, "weight": 1.0, "split": "train", "tenant": "t", "conversation_id": "c", "turn_id": "t1",
    "locale": None, "provenance": Provenance(source="user", event_ids=("e",), at_us=0),
}  # fmt: skip


def pair(preference: float) -> PreferencePair:
    return PreferencePair(**COMMON, chosen="good", rejected="bad", how="pick", preference=preference)


def label(desirable: float) -> UnpairedLabel:
    return UnpairedLabel(**COMMON, reply="good", kind="stars", desirable=desirable)


def test_a_pair_is_a_conversation_with_two_ends() -> None:
    good, bad = ([{"role": "assistant", "content": text}] for text in ("good", "bad"))
    assert row_of(pair(0.9), "trl") == {"prompt": ASKED, "chosen": good, "rejected": bad}
    row = row_of(pair(0.9), "openai")
    assert row is not None
    assert (row["input"]["messages"], row["preferred_output"], row["non_preferred_output"]) == (ASKED, good, bad)


@pytest.mark.parametrize(("desirable", "wanted"), [(0.75, True), (0.25, False)])
def test_a_label_says_whether_the_reply_is_wanted(desirable: float, wanted: bool) -> None:
    row = row_of(label(desirable), "trl")
    assert row is not None
    assert row["label"] is wanted


def test_what_prefers_neither_is_no_row() -> None:
    assert row_of(pair(0.5), "trl") is None
    assert row_of(label(0.5), "trl") is None
