from math import isclose
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feedback.labels.votes import MOST_RATERS, SOURCE_WEIGHT, Vote, comparison_votes, decide
from feedback.records import Pick
from tests.feedback.builders import AS_OF_US, MINUTE_US, START_US, rating, turn, verdict
from tests.feedback.labels.test_exchanges import exchange
from tests.feedback.labels.test_pairing import ONE, TWO, Event, by_expert, learn


def test_several_users_picks_are_one_pair_with_their_mean() -> None:
    given = [rating(str(i), "t1", "pick", Pick("t2"), user_id=f"u{i}") for i in range(3)]
    (pair,) = learn(ONE, TWO, *given, rating("x", "t2", "pick", Pick("t1"), user_id="u9")).pairs
    assert (pair.chosen, pair.preference, pair.weight) == ("here", 0.75, 4 * SOURCE_WEIGHT["user"])
    assert pair.provenance.rater is None


def test_an_experts_pick_supersedes_users_and_the_judge_whenever_it_came() -> None:
    events: list[Event] = [
        by_expert("e", "t1", "pick", Pick("t2")),
        rating("u", "t2", "pick", Pick("t1"), occurred_at_us=START_US + 99 * MINUTE_US),
        verdict("v", "t2", other_turn_id="t1", preference=0.9),
    ]
    learned = learn(ONE, TWO, *events)
    (pair,) = learned.pairs
    assert (pair.chosen, pair.provenance.source) == ("here", "expert")
    assert pair.provenance.superseded == ("u", "v")
    assert learned.ratings == {"used": 1, "superseded": 1}
    assert learned.verdicts == {"superseded": 1}


@pytest.mark.parametrize(
    ("kind", "value", "desirable"),
    [
        ("thumbs", True, 1.0),
        ("thumbs", False, 0.0),
        ("stars", 1, 0.0),
        ("stars", 2, 0.25),
        ("stars", 4, 0.75),
        ("stars", 5, 1.0),
    ],
)
def test_thumbs_and_stars_are_unpaired_labels(kind: str, value: Any, desirable: float) -> None:
    (label,) = learn(ONE, rating("a", "t1", kind, value)).unpaired
    assert (label.kind, label.desirable, label.reply, label.weight) == (kind, desirable, "here", SOURCE_WEIGHT["user"])


def test_three_stars_say_nothing() -> None:
    learned = learn(ONE, rating("a", "t1", "stars", 3))
    assert learned.unpaired == ()
    assert learned.ratings == {"neutral": 1}


def test_users_who_disagree_are_one_soft_label_each_counting_once() -> None:
    given = [
        rating("a", "t1", "thumbs", True, user_id="u1"),
        rating("b", "t1", "stars", 4, user_id="u1"),
        rating("c", "t1", "thumbs", False, user_id="u2"),
    ]
    (label,) = learn(ONE, *given).unpaired
    assert label.desirable == pytest.approx((0.875 + 0.0) / 2)
    assert label.weight == 2 * SOURCE_WEIGHT["user"]
    assert label.provenance.event_ids == ("a", "b", "c")


def test_a_crowd_does_not_outweigh_everything() -> None:
    crowd = [rating(f"{i:03}", "t1", "thumbs", True, user_id=f"u{i}") for i in range(100)]
    assert learn(ONE, *crowd).unpaired[0].weight == MOST_RATERS * SOURCE_WEIGHT["user"]


def test_a_late_human_rating_replaces_the_verdict() -> None:
    score = verdict("v", "t1", score=0.9)
    assert learn(ONE, score).unpaired[0].provenance.source == "judge"
    learned = learn(ONE, score, rating("a", "t1", "thumbs", False))
    (label,) = learned.unpaired
    assert (label.desirable, label.provenance.source, label.provenance.superseded) == (0.0, "user", ("v",))
    assert learned.verdicts == {"superseded": 1}


def test_an_expert_supersedes_a_user_also_afterwards() -> None:
    learned = learn(
        ONE, by_expert("e", "t1", "thumbs", True), rating("u", "t1", "thumbs", False, occurred_at_us=AS_OF_US)
    )
    assert (learned.unpaired[0].desirable, learned.unpaired[0].provenance.superseded) == (1.0, ("u",))


@pytest.mark.parametrize(
    ("kind", "value"), [("thumbs", False), ("stars", 1), ("pick", Pick("t2")), ("edit", "no"), ("signal", "copy")]
)
def test_what_systems_send_trains_nothing_and_supersedes_nothing(kind: str, value: Any) -> None:
    learned = learn(ONE, TWO, rating("s", "t1", kind, value, source="system"), verdict("v", "t1", score=0.9))
    assert learned.ratings == {"inert": 1}
    assert not learned.pairs
    assert not learned.demonstrations
    assert learned.unpaired[0].provenance.source == "judge"


def test_an_explicit_label_comes_before_a_regenerate() -> None:
    learned = learn(ONE, turn("t2", messages=ONE.messages, replaces="t1"), verdict("v", "t1", score=0.9))
    (label,) = learned.unpaired
    assert (label.kind, label.desirable, label.provenance.superseded) == ("verdict", 0.9, ("served-t2",))


def test_a_signal_supersedes_nothing_even_if_a_user_sent_it() -> None:
    learned = learn(ONE, rating("s", "t1", "signal", "regenerate"), verdict("v", "t1", score=0.9))
    assert (learned.unpaired[0].kind, learned.unpaired[0].provenance.superseded) == ("verdict", ("s",))
    assert (learned.ratings, learned.verdicts) == ({"superseded": 1}, {"used": 1})


VOTES = st.builds(
    Vote,
    origin=st.just("rating"),
    kind=st.sampled_from(["thumbs", "stars", "signal"]),
    event_ids=st.tuples(st.uuids().map(str)),
    at_us=st.integers(0, 9),
    source=st.sampled_from(["expert", "user", "judge", "system"]),
    value=st.floats(0, 1),
    rater=st.sampled_from(["a", "b", "c", None]),
)
MANY = st.lists(VOTES, min_size=1, max_size=12, unique_by=lambda vote: vote.event_ids)


@given(MANY, st.data())
def test_a_decision_does_not_depend_on_the_order_of_votes_and_loses_none(
    votes: list[Vote], data: st.DataObject
) -> None:
    decision, again = decide(votes), decide(data.draw(st.permutations(votes)))
    assert decision is not None
    assert again is not None
    assert (decision.value, decision.weight, decision.counted) == (again.value, again.weight, again.counted)
    assert decision.provenance() == again.provenance()
    assert sorted(vote.event_ids for vote in (*decision.counted, *decision.superseded)) == sorted(
        vote.event_ids for vote in votes
    )


@given(MANY, st.integers(1, 9))
def test_who_says_the_same_again_counts_no_more(votes: list[Vote], times: int) -> None:
    once, often = decide(votes), decide(votes * times)
    assert once is not None
    assert often is not None
    assert isclose(once.value, often.value, abs_tol=1e-12)
    assert (once.weight, once.provenance()) == (often.weight, often.provenance())


def test_without_votes_there_is_no_decision() -> None:
    assert decide([]) is None


@pytest.mark.parametrize(("score", "value"), [(1.7, 1.0), (-0.2, 0.0)])
def test_a_judge_who_scores_beyond_the_scale_is_held_to_it(score: float, value: float) -> None:
    (label,) = learn(ONE, verdict("v", "t1", score=score)).unpaired
    assert label.desirable == value


@pytest.mark.parametrize(("rated", "over", "first_is_better"), [("t1", "t2", 1.0), ("t2", "t1", 0.0)])
def test_a_pick_answers_the_same_question_from_either_side(rated: str, over: str, first_is_better: float) -> None:
    events = (turn(rated), turn(over), rating("p", rated, "pick", Pick(over)))
    given_votes = [(question, vote.value) for question, vote in comparison_votes(exchange(*events, of=rated))]
    assert given_votes == [(("t1", "t2"), first_is_better)]


def test_a_comparison_is_a_vote_of_the_turn_that_it_was_asked_of_only() -> None:
    events = (turn("t1"), turn("t2"), verdict("v", "t2", other_turn_id="t1", preference=0.75))
    assert comparison_votes(exchange(*events, of="t1")) == []
    ((question, vote),) = comparison_votes(exchange(*events, of="t2"))
    assert (question, vote.value, vote.source) == (("t1", "t2"), 0.25, "judge")
