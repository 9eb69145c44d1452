from typing import Any

import pytest

from feedback.digests import edit_digest
from feedback.labels.exchanges import said
from feedback.labels.votes import SOURCE_WEIGHT, USER_EDIT_WEIGHT
from feedback.records import Rating, Verdict
from tests.feedback.builders import AS_OF_US, GATE, TRAIN, rating, says, turn, verdict
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


def unnamed(event_id: str, turn_id: str, text: str, **changes: Any) -> Rating:
    """An edit by whoever was shown the reply."""
    return rating(event_id, turn_id, "edit", text, user_id=None, origin="feedback", **changes)


def of_edit(
    verdict_id: str, turn_id: str, text: str, preference: float, reply: str = "here", **changes: Any
) -> Verdict:
    """What the judge says of an edit."""
    return verdict(verdict_id, turn_id, edit=edit_digest(reply, text), preference=preference, **changes)


def test_sixty_edits_of_people_without_a_name_are_nothing_unless_the_judge_prefers_them_and_then_few() -> None:
    turns = [turn(f"t{i}", messages=says(f"question {i}"), reply="here", conversation_id=f"c{i}") for i in range(60)]
    edits = [unnamed(f"e{i}", f"t{i}", f"buy {i}", conversation_id=f"c{i}") for i in range(60)]
    bad = [verdict(f"v{i}", f"t{i}", score=0.0, conversation_id=f"c{i}") for i in range(60)]
    learned = learn(*turns, *edits, *bad)
    assert learned.demonstrations == ()
    assert learned.ratings == {"unconfirmed": 60}
    better = [of_edit(f"w{i}", f"t{i}", f"buy {i}", 0.9, conversation_id=f"c{i}") for i in range(30)]
    worse = [of_edit(f"w{i}", f"t{i}", f"buy {i}", 0.1, conversation_id=f"c{i}") for i in range(30, 60)]
    judged = learn(*turns, *edits, *bad, *better, *worse, max_anonymous_edits=20)
    assert {d.turn_id for d in judged.demonstrations} <= {f"t{i}" for i in range(30)}
    assert (len(judged.demonstrations), len(judged.pairs)) == (20, 0)
    assert judged.ratings == {"used": 20, "over_edit_cap": 10, "unconfirmed": 30}
    assert judged.verdicts == {"used": 60 + 20, "over_edit_cap": 10, "neutral": 30}


def test_an_edit_that_the_judge_prefers_says_which_verdict_vouched_for_it() -> None:
    learned = learn(ONE, unnamed("e", "t1", "over there"), of_edit("v", "t1", "over there", 0.9))
    (demonstration,) = learned.demonstrations
    assert (demonstration.reply, demonstration.weight) == ("over there", USER_EDIT_WEIGHT)
    assert (demonstration.provenance.event_ids, demonstration.provenance.prompt_hash) == (("e", "v"), "p1")
    assert learned.unpaired == ()


@pytest.mark.parametrize(
    ("events", "use"),
    [
        ((of_edit("v", "t1", "over there", 0.5),), "neutral"),
        ((of_edit("v", "t1", "something else", 0.9),), "mismatched"),
        ((of_edit("v", "t1", "over there", 0.9, reply="another reply"),), "mismatched"),
        ((of_edit("v", "t1", "over there", 0.9), by_expert("x", "t1", "thumbs", True)), "superseded"),
        ((of_edit("v", "t1", "over there", 0.9), by_expert("x", "t1", "edit", "upstairs")), "superseded"),
        ((of_edit("v", "t1", "over there", 0.9), unnamed("e", "t1", "buy", occurred_at_us=AS_OF_US)), "mismatched"),
        ((verdict("v", "t1", score=0.0), by_expert("x", "t1", "thumbs", False)), None),
    ],
    ids=["a tie", "of another text", "of another reply", "an expert likes it", "an expert edits", "revised", "none"],
)
def test_an_edit_without_a_name_is_none_where_the_judge_did_not_prefer_it(
    events: tuple[Event, ...], use: str | None
) -> None:
    learned = learn(ONE, unnamed("e", "t1", "over there"), *events)
    assert [d.reply for d in learned.demonstrations if d.provenance.source == "user"] == []
    if use is not None:
        assert learned.verdicts == {use: 1}


def test_of_the_edits_of_one_turn_by_people_without_a_name_the_last_one_counts() -> None:
    first, last = unnamed("a", "t1", "one"), unnamed("b", "t1", "two", rubric="correct", occurred_at_us=AS_OF_US)
    verdicts = of_edit("v", "t1", "one", 0.9), of_edit("w", "t1", "two", 0.9)
    learned = learn(ONE, first, last, *verdicts)
    assert [d.reply for d in learned.demonstrations] == ["two"]
    assert (learned.ratings, learned.verdicts) == ({"used": 1, "unconfirmed": 1}, {"used": 1, "mismatched": 1})


def test_a_verdict_of_an_edit_is_none_of_the_reply() -> None:
    heard = said([], [of_edit("v", "t1", "over there", 0.9)], lambda keys: keys, AS_OF_US)
    assert (heard.verdicts, list(heard.edit_verdicts)) == ({}, [ONE.key])
    assert learn(ONE, of_edit("v", "t1", "over there", 0.9)).verdicts == {"mismatched": 1}


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
