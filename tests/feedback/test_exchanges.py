from typing import Any

from feedback.exchanges import Reduced, is_rated, reduce
from feedback.records import Exchange, Judgement, Pick, Rating, Score, Turn
from tests.feedback.builders import (
    AS_OF_US,
    MINUTE_US,
    START_US,
    MemoryFacts,
    content_hash,
    rating,
    turn,
    unjudged,
    verdict,
)


def reduced(*events: Turn | Rating | Judgement, as_of_us: int = AS_OF_US) -> Reduced:
    facts = MemoryFacts(events)
    return reduce(facts.turns(), facts.ratings(), facts.verdicts(), as_of_us)


def exchange(*events: Turn | Rating | Judgement) -> Exchange:
    """The exchange of the one turn `t1`."""
    return reduced(*events).exchanges["default", "t1"]


def later(minutes: int) -> dict[str, Any]:
    return {"occurred_at_us": START_US + minutes * MINUTE_US}


def live(*events: Turn | Rating | Judgement) -> list[str]:
    return [given.event_id for given in exchange(*events).ratings]


def test_of_two_payloads_under_one_event_id_the_smaller_hash_counts_in_either_order() -> None:
    one, other = turn("t1", reply="one"), turn("t1", reply="other")
    smaller = min(one, other, key=content_hash)
    assert exchange(one, other).turn == exchange(other, one).turn == smaller
    assert reduced(one, other, one).conflicts == 1
    assert reduced(one, other, one).duplicates == 2


def test_of_two_events_under_one_turn_id_the_smaller_hash_counts_in_either_order() -> None:
    one, other = turn("t1", event_id="e1", reply="one"), turn("t1", event_id="e2", reply="other")
    smaller = min(one, other, key=content_hash)
    assert exchange(one, other).turn == exchange(other, one).turn == smaller
    assert reduced(one, other).conflicts == 1
    assert reduced(one, other).duplicates == 0


def test_payloads_that_differ_only_in_the_hashed_user_belong_to_nobody() -> None:
    one, other = turn("t1", user_id="a"), turn("t1", user_id="b")
    assert exchange(one, other).turn.user_id is None
    assert exchange(one, other, one).turn == exchange(other, one, one).turn
    assert reduced(one, other).conflicts == 0


def test_the_same_ids_in_two_tenants_are_two_turns() -> None:
    assert set(reduced(turn("t1"), turn("t1", tenant="other")).exchanges) == {("default", "t1"), ("other", "t1")}


def test_a_rating_may_come_before_its_turn() -> None:
    assert live(rating("early", "t1", "thumbs", True, **later(0)), turn("t1")) == ["early"]


def test_the_last_word_of_a_rater_counts_whatever_comes_first() -> None:
    first = rating("a", "t1", "thumbs", True, **later(2))
    last = rating("b", "t1", "thumbs", False, **later(5))
    assert live(turn("t1"), first, last) == live(turn("t1"), last, first) == ["b"]
    assert reduced(turn("t1"), first, last).fates == {"revised": 1}


def test_at_one_moment_the_greater_event_id_is_the_last_word() -> None:
    assert live(turn("t1"), rating("b", "t1", "stars", 1), rating("a", "t1", "stars", 5)) == ["b"]


def test_kinds_raters_sources_and_rubric_items_each_have_their_own_word() -> None:
    given = [
        rating("a", "t1", "thumbs", True),
        rating("b", "t1", "stars", 4),
        rating("c", "t1", "thumbs", True, user_id="another"),
        rating("d", "t1", "thumbs", True, source="expert"),
        rating("e", "t1", "thumbs", False, source="expert", rubric="tone"),
        rating("f", "t1", "score", Score("csat", 0.5)),
        rating("g", "t1", "score", Score("solved", 1.0)),
    ]
    assert live(turn("t1"), *given) == list("abcdefg")


def test_null_takes_a_rating_back_and_the_turn_is_unrated_again() -> None:
    given = [rating("a", "t1", "thumbs", True), rating("b", "t1", "thumbs", None, **later(9))]
    assert not is_rated(exchange(turn("t1"), *given))
    assert reduced(turn("t1"), *given).fates == {"revised": 1, "retraction": 1}


def test_a_rating_after_the_null_counts_again() -> None:
    given = [rating("a", "t1", "thumbs", None), rating("b", "t1", "thumbs", True, **later(9))]
    assert live(turn("t1"), *given) == ["b"]


def test_one_rater_picks_once_per_question_whichever_reply_he_rated() -> None:
    given = [
        rating("a", "t1", "pick", Pick("t2")),
        rating("b", "t2", "pick", Pick("t1"), **later(5)),
        rating("c", "t1", "pick", Pick("t3"), **later(4)),
    ]
    state = reduced(turn("t1"), turn("t2"), turn("t3"), *given)
    assert [r.event_id for r in state.exchanges["default", "t1"].ratings] == ["c"]
    assert [r.event_id for r in state.exchanges["default", "t2"].ratings] == ["b"]
    assert state.fates == {"revised": 1}


def test_a_null_takes_back_the_picks_given_before_it_on_that_turn_only() -> None:
    given = [
        rating("a", "t1", "pick", Pick("t2")),
        rating("b", "t2", "pick", Pick("t3")),
        rating("c", "t1", "pick", None, **later(4)),
        rating("d", "t1", "pick", Pick("t3"), **later(5)),
    ]
    state = reduced(turn("t1"), turn("t2"), turn("t3"), *given)
    assert [r.event_id for r in state.exchanges["default", "t1"].ratings] == ["d"]
    assert [r.event_id for r in state.exchanges["default", "t2"].ratings] == ["b"]
    assert state.fates == {"revised": 1, "retraction": 1}


def test_a_null_score_takes_back_every_score() -> None:
    given = [rating("a", "t1", "score", Score("csat", 1.0)), rating("b", "t1", "score", None, **later(4))]
    assert live(turn("t1"), *given) == []


def test_comments_signals_and_scores_leave_a_turn_unrated() -> None:
    given = [rating("a", "t1", "comment", "hm"), rating("b", "t1", "signal", "copy")]
    assert not is_rated(exchange(turn("t1"), *given))
    assert is_rated(exchange(turn("t1"), rating("c", "t1", "edit", "better")))


def test_ratings_of_conversations_and_of_unknown_turns_are_kept_aside() -> None:
    state = reduced(
        turn("t1"),
        rating("a", None, "stars", 5),
        rating("b", None, "stars", 1, **later(7)),
        rating("c", "nowhere", "thumbs", True),
    )
    assert [r.event_id for r in state.conversation_ratings] == ["b"]
    assert [r.event_id for r in state.orphans] == ["c"]
    assert state.fates == {"conversation": 1, "revised": 1, "orphan": 1}
    assert state.ratings == {"stars": 2, "thumbs": 1}


def test_what_happened_after_as_of_is_left_out() -> None:
    events: list[Turn | Rating | Judgement] = [
        turn("t1"),
        rating("a", "t1", "thumbs", True, **later(5)),
        turn("t2", **later(6)),
        verdict("v", "t1", **later(6)),
    ]
    state = reduced(*events, as_of_us=START_US + 5 * MINUTE_US)
    assert list(state.exchanges) == [("default", "t1")]
    assert [r.event_id for r in state.exchanges["default", "t1"].ratings] == ["a"]
    assert state.exchanges["default", "t1"].verdicts == ()


def test_the_latest_verdict_counts_per_question() -> None:
    old, new = verdict("v1", "t1", score=0.1), verdict("v2", "t1", score=0.9, **later(8))
    comparison = verdict("v3", "t1", other_turn_id="t2", preference=0.7)
    state = reduced(turn("t1"), turn("t2"), new, old, comparison)
    assert [v.verdict_id for v in state.exchanges["default", "t1"].verdicts] == ["v3", "v2"]
    assert [v.verdict_id for v in state.exchanges["default", "t2"].verdicts] == ["v3"]


def test_comparisons_of_two_replies_are_one_question_in_either_direction() -> None:
    one = verdict("v1", "t1", other_turn_id="t2", preference=0.7)
    back = verdict("v2", "t2", other_turn_id="t1", preference=0.6, **later(8))
    assert [v.verdict_id for v in exchange(turn("t1"), turn("t2"), back, one).verdicts] == ["v2"]


def test_a_verdict_counts_before_the_lack_of_one_under_the_same_id() -> None:
    lack, given = unjudged("v1", "t1", "budget"), verdict("v1", "t1", score=0.9)
    assert exchange(turn("t1"), lack, given) == exchange(turn("t1"), given, lack)
    assert exchange(turn("t1"), lack, given).unjudged is None


def test_the_latest_reason_why_there_is_no_verdict_is_kept() -> None:
    state = exchange(turn("t1"), unjudged("v2", "t1", "timeout", **later(8)), unjudged("v1", "t1", "budget"))
    assert state.unjudged is not None
    assert state.unjudged.reason == "timeout"


def test_verdicts_of_unknown_turns_are_counted() -> None:
    assert reduced(turn("t1"), verdict("v1", "t9", score=1.0)).orphan_verdicts == 1
