import pytest

from feedback.labels.replacements import named_replacements, signalled_replacements
from feedback.labels.votes import SIGNAL_WEIGHT
from feedback.records import TurnKey
from tests.feedback.builders import MINUTE_US, START_US, rating, says, turn
from tests.feedback.labels.test_exchanges import joined
from tests.feedback.labels.test_pairing import ONE, TWO, Event, learn

FIRST, SECOND = ("default", "c1", "t1"), ("default", "c1", "t2")


def replaced(*events: Event) -> tuple[list[tuple[TurnKey, TurnKey]], list[tuple[TurnKey, TurnKey]]]:
    """The replacements that a turn names, and those that a signal tells of."""
    exchanges = joined(*events)
    return list(named_replacements(exchanges)), list(signalled_replacements(exchanges))


def test_a_regenerate_is_a_weak_label_against_the_first_reply_and_no_pair() -> None:
    learned = learn(ONE, turn("t2", messages=ONE.messages, replaces="t1"))
    (label,) = learned.unpaired
    assert (label.turn_id, label.kind, label.desirable, label.weight) == ("t1", "signal", 0.0, SIGNAL_WEIGHT)
    assert label.provenance.source == "system"
    assert learned.pairs == ()


@pytest.mark.parametrize("source", ["user", "system"])
def test_a_regenerate_signal_is_the_same_as_a_reply_that_replaces(source: str) -> None:
    signal = rating("s", "t1", "signal", "regenerate", source=source)
    learned = learn(ONE, TWO, signal, rating("a", "t2", "thumbs", True))
    assert {(label.turn_id, label.kind) for label in learned.unpaired} == {("t1", "signal"), ("t2", "thumbs")}
    assert [(pair.chosen, pair.rejected) for pair in learned.pairs] == [("there", "here")]
    assert learned.ratings == {"used": 2}


def test_a_regenerate_is_a_pair_once_its_second_reply_earned_a_positive_label() -> None:
    second = turn("t2", messages=ONE.messages, reply="there", replaces="t1")
    (pair,) = learn(ONE, second, rating("a", "t2", "stars", 4)).pairs
    assert (pair.chosen, pair.rejected, pair.how, pair.preference) == ("there", "here", "regenerate", 0.75)
    assert pair.provenance.event_ids == ("a", "served-t2")
    assert learn(ONE, second, rating("a", "t2", "stars", 2)).pairs == ()
    assert learn(ONE, second, rating("a", "t2", "stars", 4), rating("b", "t1", "thumbs", True)).pairs == ()


def test_a_regenerate_of_another_conversations_turn_says_nothing() -> None:
    learned = learn(ONE, turn("t2", messages=ONE.messages, replaces="t1", conversation_id="c2"))
    assert learned.unpaired == ()


def test_the_second_reply_of_a_regenerate_signal_is_the_next_to_the_same_context() -> None:
    between = turn("t3", messages=says("and what else?"), occurred_at_us=ONE.occurred_at_us + 1)
    signal = rating("s", "t1", "signal", "regenerate")
    good = [rating("a", "t2", "thumbs", True), rating("b", "t3", "thumbs", True)]
    assert [pair.chosen for pair in learn(ONE, TWO, between, signal, *good).pairs] == ["there"]


def test_a_reply_that_names_its_first_needs_no_signal_and_the_other_way_round() -> None:
    names = turn("t2", messages=ONE.messages, replaces="t1")
    assert replaced(ONE, names) == ([(FIRST, SECOND)], [])
    assert replaced(ONE, TWO, rating("s", "t1", "signal", "regenerate")) == ([], [(FIRST, SECOND)])


@pytest.mark.parametrize(
    "second",
    [
        turn("t2", messages=ONE.messages, replaces="t9"),
        turn("t2", messages=ONE.messages, replaces="t2"),
        turn("t2", messages=ONE.messages, replaces="t1", tenant="other"),
    ],
    ids=["an unknown turn", "itself", "another tenant's"],
)
def test_what_names_no_turn_of_its_conversation_replaces_nothing(second: Event) -> None:
    assert replaced(ONE, second) == ([], [])


@pytest.mark.parametrize(
    "other",
    [
        turn("t0", messages=ONE.messages, occurred_at_us=START_US),
        turn("t2", messages=ONE.messages, occurred_at_us=START_US + 9 * MINUTE_US, conversation_id="c2"),
        turn("t2", messages=says("another question"), occurred_at_us=START_US + 9 * MINUTE_US),
    ],
    ids=["earlier", "another conversation's", "another context"],
)
def test_a_signal_looks_for_its_second_reply_later_in_its_conversation(other: Event) -> None:
    assert replaced(ONE, other, rating("s", "t1", "signal", "regenerate")) == ([], [])


def test_of_several_second_replies_a_signal_means_the_next_also_among_turns_of_one_moment() -> None:
    at_once = [turn(f"t{i}", messages=ONE.messages) for i in (4, 3, 2)]
    assert replaced(ONE, *at_once, rating("s", "t1", "signal", "regenerate"))[1] == [(FIRST, SECOND)]


def test_a_reply_regenerated_twice_is_a_chain() -> None:
    third = turn("t3", messages=ONE.messages, occurred_at_us=TWO.occurred_at_us + MINUTE_US)
    signals = [rating(f"s{i}", f"t{i}", "signal", "regenerate") for i in (1, 2)]
    assert sorted(replaced(third, TWO, ONE, *signals)[1]) == [(FIRST, SECOND), (SECOND, ("default", "c1", "t3"))]
