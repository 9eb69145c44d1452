from typing import Any

from feedback.dataset import census
from feedback.labels.exchanges import Exchange, Said, is_rated, join, said
from feedback.labels.outline import outline
from feedback.records import Judgement, Rating, Turn, TurnKey
from tests.feedback.builders import (
    AS_OF_US,
    MINUTE_US,
    START_US,
    MemoryFacts,
    rating,
    turn,
    unjudged,
    verdict,
)


def heard(*events: Turn | Rating | Judgement, as_of_us: int = AS_OF_US) -> Said:
    facts = MemoryFacts(events)
    return said(facts.ratings(), facts.verdicts(), census.take(facts.turns()).known, as_of_us)


def joined(*events: Turn | Rating | Judgement) -> dict[TurnKey, Exchange]:
    """The exchanges of all turns."""
    turns = (outline(turn) for turn, _ in MemoryFacts(events).turns())
    return join(turns, heard(*events))


def exchange(*events: Turn | Rating | Judgement, of: str = "t1") -> Exchange:
    """The exchange of one turn."""
    return joined(*events)["default", "c1", of]


def later(minutes: int) -> dict[str, Any]:
    return {"occurred_at_us": START_US + minutes * MINUTE_US}


def live(*events: Turn | Rating | Judgement) -> list[str]:
    return [given.event_id for given in exchange(*events).ratings]


def test_comments_signals_and_scores_leave_a_turn_unrated() -> None:
    given = [rating("a", "t1", "comment", "hm"), rating("b", "t1", "signal", "copy")]
    assert not is_rated(exchange(turn("t1"), *given).ratings)
    assert is_rated(exchange(turn("t1"), rating("c", "t1", "edit", "better")).ratings)


def test_ratings_of_conversations_and_of_unknown_turns_are_kept_aside() -> None:
    state = heard(
        turn("t1"),
        rating("a", None, "stars", 5),
        rating("b", None, "stars", 1, **later(7)),
        rating("c", "nowhere", "thumbs", True),
    )
    assert [r.event_id for r in state.conversation_ratings] == ["b"]
    assert [r.event_id for r in state.orphans] == ["c"]
    assert state.fates == {"conversation": 1, "revised": 1, "orphan": 1}
    assert state.kinds == {"stars": 2, "thumbs": 1}


def test_what_happened_after_as_of_is_left_out() -> None:
    events: list[Turn | Rating | Judgement] = [
        turn("t1"),
        rating("a", "t1", "thumbs", True, **later(5)),
        turn("t2", **later(6)),
        verdict("v", "t1", **later(6)),
    ]
    state = heard(*events, as_of_us=START_US + 5 * MINUTE_US)
    assert [r.event_id for r in state.ratings["default", "c1", "t1"]] == ["a"]
    assert state.verdicts == {}


def test_the_latest_verdict_counts_per_question() -> None:
    old, new = verdict("v1", "t1", score=0.1), verdict("v2", "t1", score=0.9, **later(8))
    comparison = verdict("v3", "t1", other_turn_id="t2", preference=0.7)
    state = heard(turn("t1"), turn("t2"), new, old, comparison)
    assert [v.verdict_id for v in state.verdicts["default", "c1", "t1"]] == ["v3", "v2"]
    assert [v.verdict_id for v in state.verdicts["default", "c1", "t2"]] == ["v3"]


def test_comparisons_of_two_replies_are_one_question_in_either_direction() -> None:
    one = verdict("v1", "t1", other_turn_id="t2", preference=0.7)
    back = verdict("v2", "t2", other_turn_id="t1", preference=0.6, **later(8))
    assert [v.verdict_id for v in exchange(turn("t1"), turn("t2"), back, one).verdicts] == ["v2"]


def test_a_verdict_counts_before_the_lack_of_one_under_the_same_id() -> None:
    lack, given = unjudged("v1", "t1", "budget"), verdict("v1", "t1", score=0.9)
    assert exchange(turn("t1"), lack, given) == exchange(turn("t1"), given, lack)
    assert not heard(turn("t1"), lack, given).unjudged


def test_the_latest_reason_why_there_is_no_verdict_is_kept() -> None:
    state = heard(turn("t1"), unjudged("v2", "t1", "timeout", **later(8)), unjudged("v1", "t1", "budget"))
    assert state.unjudged["default", "c1", "t1"].reason == "timeout"


def test_verdicts_of_unknown_turns_are_counted() -> None:
    assert heard(turn("t1"), verdict("v1", "t9", score=1.0)).orphan_verdicts == 1
