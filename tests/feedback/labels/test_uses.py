import pytest
from hypothesis import given
from hypothesis import strategies as st

from feedback.labels.outline import outline
from feedback.labels.uses import Use, Uses, label_id, unusable
from feedback.labels.votes import Decision, Vote
from feedback.records import Pick
from tests.feedback.builders import rating, turn, unjudged, verdict
from tests.feedback.labels.test_pairing import ONE, TWO, learn


def test_a_late_human_pick_changes_the_judges_pair_and_keeps_its_id() -> None:
    judged = learn(ONE, TWO, verdict("v", "t1", other_turn_id="t2", preference=0.8))
    picked = learn(
        ONE, TWO, verdict("v", "t1", other_turn_id="t2", preference=0.8), rating("u", "t2", "pick", Pick("t1"))
    )
    assert judged.pairs[0].id == picked.pairs[0].id
    assert (judged.pairs[0].how, judged.pairs[0].chosen) == ("verdict", "here")
    assert (picked.pairs[0].how, picked.pairs[0].chosen) == ("pick", "there")


def test_a_verdict_without_an_answer_is_counted() -> None:
    assert learn(ONE, verdict("v", "t1"), unjudged("u", "t1", "budget")).verdicts == {"neutral": 1}


QUESTIONS = st.lists(st.text(max_size=3), min_size=1, max_size=4)


@given(QUESTIONS, QUESTIONS)
def test_two_questions_never_share_an_id(one: list[str], other: list[str]) -> None:
    assert (label_id(*one) == label_id(*other)) == (one == other)


def test_the_parts_of_a_question_do_not_run_into_each_other() -> None:
    assert len({label_id("a", "bc"), label_id("ab", "c"), label_id("a", "b", "c"), label_id('a", "bc')}) == 4


def test_the_id_of_a_known_question_never_changes() -> None:
    # It names rows of snapshots that were sealed: another one would show every label as removed and added.
    assert label_id("quality", "default", "t1") == "ed14edd73cf46fd5d4d9f798b46d4285"


def vote(origin: str, event_id: str) -> Vote:
    kind = "verdict" if origin == "verdict" else "signal"
    return Vote(origin=origin, kind=kind, event_ids=(event_id,), at_us=0, source="user", value=1.0)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("use", "of_superseded"),
    [
        ("used", "superseded"),
        ("neutral", "superseded"),
        ("outside_window", "outside_window"),
        ("mismatched", "mismatched"),
    ],
)
def test_what_gave_way_is_superseded_only_where_the_question_was_answered(use: Use, of_superseded: Use) -> None:
    uses = Uses()
    uses.count(Decision(1.0, 1.0, (vote("rating", "a"), vote("turn", "b")), (vote("verdict", "c"),)), use)
    assert dict(+uses.ratings) == {use: 1}  # what a turn tells by itself is no rating
    assert dict(+uses.verdicts) == {of_superseded: 1}


def test_a_turn_that_may_not_be_learned_from_is_untrainable_also_outside_the_window() -> None:
    assert unusable(outline(turn("t1", train=False)), in_window=False) == "untrainable"
    assert unusable(outline(turn("t1")), in_window=False) == "outside_window"
    assert unusable(outline(turn("t1")), in_window=True) is None
