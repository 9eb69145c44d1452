from typing import Any

import pytest

from feedback.labels.votes import SOURCE_WEIGHT, USER_EDIT_WEIGHT
from tests.feedback.builders import GATE, TRAIN, rating, says, turn, verdict
from tests.feedback.labels.test_pairing import ONE, Event, by_expert, learn


def test_an_experts_edit_is_a_pair_and_a_demonstration() -> None:
    learned = learn(ONE, by_expert("e", "t1", "edit", "over there"), rating("u", "t1", "edit", "mine"))
    (pair,), (demonstration,) = learned.pairs, learned.demonstrations
    assert (pair.chosen, pair.rejected, pair.how) == ("over there", "here", "edit")
    assert (demonstration.reply, demonstration.weight) == ("over there", SOURCE_WEIGHT["expert"])
    assert pair.provenance.superseded == demonstration.provenance.superseded == ("u",)
    assert learned.ratings == {"used": 1, "superseded": 1}


def test_a_users_edit_alone_trains_nothing() -> None:
    learned = learn(ONE, rating("u", "t1", "edit", "mine"), rating("t", "t1", "thumbs", False))
    assert not learned.pairs
    assert not learned.demonstrations
    assert learned.ratings == {"unconfirmed": 1, "used": 1}


@pytest.mark.parametrize(
    ("agreeing", "confirmed"),
    [
        (verdict("v", "t1", score=0.2), True),
        (verdict("v", "t1", score=0.8), False),
        (by_expert("v", "t1", "thumbs", False), True),
        (by_expert("v", "t1", "thumbs", True), False),
    ],
)
def test_a_users_edit_is_a_demonstration_if_an_expert_or_the_judge_found_the_reply_bad(
    agreeing: Event, confirmed: bool
) -> None:
    # The user's own thumb supersedes the verdict as a label, and says nothing about the edit.
    learned = learn(ONE, rating("u", "t1", "edit", "mine"), rating("t", "t1", "thumbs", False), agreeing)
    assert [(d.reply, d.weight) for d in learned.demonstrations] == ([("mine", USER_EDIT_WEIGHT)] if confirmed else [])
    assert learned.pairs == ()
    if confirmed:
        assert learned.demonstrations[0].provenance.event_ids == ("u", "v")


def test_an_expert_who_found_the_reply_good_outweighs_the_judge_on_an_edit() -> None:
    events = (rating("u", "t1", "edit", "mine"), by_expert("e", "t1", "thumbs", True), verdict("v", "t1", score=0.1))
    assert learn(ONE, *events).demonstrations == ()


def test_edits_are_capped_per_user() -> None:
    turns = [turn(f"t{i}", messages=says(f"question {i}")) for i in range(6)]
    edits = [rating(f"e{i}", f"t{i}", "edit", "mine", user_id="a" if i < 4 else "b") for i in range(6)]
    bad = [verdict(f"v{i}", f"t{i}", score=0.0) for i in range(6)]
    learned = learn(*turns, *edits, *bad, max_user_edits=3)
    assert sorted(d.provenance.rater or "" for d in learned.demonstrations) == ["a", "a", "a", "b", "b"]
    assert learned.ratings == {"used": 5, "over_edit_cap": 1}


@pytest.mark.parametrize("text", ["", "  ", "\u200b", "<think>shorter?"])
def test_an_edit_that_deletes_everything_is_neutral(text: str) -> None:
    learned = learn(ONE, by_expert("e", "t1", "edit", text))
    assert not learned.pairs
    assert not learned.demonstrations
    assert learned.ratings == {"neutral": 1}


@pytest.mark.parametrize(
    ("reply", "text"),
    [
        ("here", "here"),
        ("here", " here\n"),
        ("Natürlich, das Café.", "Natu\u0308rlich, das Cafe\u0301."),
        ("Um neun.\r\nDanke.", "Um neun.\nDanke."),
        ("We open at nine.", "We open\u00a0at\u200b nine."),
        ("<think>hm</think>here", "here"),
    ],
    ids=["the same", "space around it", "decomposed", "line ends", "no-break space", "the thought taken out"],
)
def test_an_edit_that_changes_nothing_to_be_seen_is_none_and_is_counted(reply: str, text: str) -> None:
    learned = learn(turn("t1", reply=reply), by_expert("e", "t1", "edit", text))
    assert not learned.pairs
    assert not learned.demonstrations
    assert learned.ratings == {"unchanged": 1}


def test_an_edit_is_learned_without_its_thoughts() -> None:
    learned = learn(ONE, by_expert("e", "t1", "edit", "<think>shorter</think>\nThere."))
    assert [d.reply for d in learned.demonstrations] == [p.chosen for p in learned.pairs] == ["There."]


def test_a_reply_that_was_cut_takes_no_edit() -> None:
    learned = learn(turn("t1", finish_reason="length"), by_expert("e", "t1", "edit", "The whole answer."))
    assert not learned.pairs
    assert not learned.demonstrations
    assert learned.ratings == {"cut": 1}


def test_the_cap_takes_the_same_edits_in_whatever_order_they_come() -> None:
    turns = [turn(f"t{i}", messages=says(f"question {i}")) for i in range(6)]
    edits = [rating(f"e{i}", f"t{i}", "edit", f"mine {i}") for i in range(6)]
    bad = [verdict(f"v{i}", f"t{i}", score=0.0) for i in range(6)]
    kept = learn(*turns, *edits, *bad, max_user_edits=3).demonstrations
    assert learn(*reversed(turns), *reversed(edits), *bad, max_user_edits=3).demonstrations == kept


def test_edits_of_people_without_a_name_are_capped_per_conversation() -> None:
    turns = [turn(f"t{i}", messages=says(f"question {i}"), conversation_id=f"c{i // 3}") for i in range(6)]
    edits = [rating(f"e{i}", f"t{i}", "edit", "mine", user_id=None, conversation_id=f"c{i // 3}") for i in range(6)]
    bad = [verdict(f"v{i}", f"t{i}", score=0.0, conversation_id=f"c{i // 3}") for i in range(6)]
    learned = learn(*turns, *edits, *bad, max_user_edits=2)
    assert sorted(d.conversation_id for d in learned.demonstrations) == ["c0", "c0", "c1", "c1"]


def test_a_regenerate_does_not_confirm_an_edit() -> None:
    learned = learn(ONE, rating("u", "t1", "edit", "mine"), by_expert("s", "t1", "signal", "regenerate"))
    assert learned.demonstrations == ()
    assert learned.ratings == {"unconfirmed": 1, "used": 1}


@pytest.mark.parametrize(("changes", "kept"), [({"train": False}, True), ({}, False)])
def test_an_edit_of_a_reply_that_may_not_be_learned_from_teaches_nothing(changes: dict[str, Any], kept: bool) -> None:
    learned = learn(turn("t1", **changes), by_expert("e", "t1", "edit", "better"), kept={"t1"} if kept else set())
    assert not learned.pairs
    assert not learned.demonstrations
    assert learned.ratings == {"untrainable" if kept else "outside_window": 1}


@pytest.mark.parametrize(("bucket", "split"), [(TRAIN, "train"), (GATE, "gate")])
def test_a_demonstration_stays_in_the_split_of_its_turn(bucket: int, split: str) -> None:
    learned = learn(turn("t1", bucket=bucket), by_expert("e", "t1", "edit", "better"))
    assert [label.split for label in learned.pairs] == [label.split for label in learned.demonstrations] == [split]
