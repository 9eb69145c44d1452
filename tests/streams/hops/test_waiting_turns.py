"""Turns that wait for a rating: whoever has their partition asks the same questions, however often it changes hands."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from types import SimpleNamespace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from feedback.digests import edit_digest
from feedback.intake.edge import content_hash
from feedback.judge.routing import request_id
from feedback.records import Rating, Turn
from streams.hops.waiting_turns import LOOK_BACK_US, WaitingTurns, edit_questions
from tests.fakes import ManualClock
from tests.feedback.builders import rating, turn, unjudged, verdict

GRACE_S = 60.0
GRACE_US = 60_000_000
NOW_US = ManualClock().now_us()


class Received:
    """Facts: what was received when, and what the judge said."""

    def __init__(self, *events: tuple[int, int, Turn | Rating], judged: tuple[Any, ...] = ()) -> None:
        self.events, self._judged = list(events), judged

    def received_since(self, since_us: int) -> Iterator[tuple[int, int, Turn | Rating]]:
        return (event for event in self.events if event[1] > since_us)

    def verdicts(self) -> tuple[Any, ...]:
        return self._judged


def thumb(turn_id: str) -> Rating:
    return rating(f"of-{turn_id}", turn_id, "thumbs", True)


def took_over(partitions: set[int], received: Received, clock: ManualClock) -> WaitingTurns:
    """A worker that has just been given these partitions."""
    turns = WaitingTurns(GRACE_S, clock)
    facts: Any = received
    turns.own(partitions, turns.rebuilt(partitions, facts, clock.now_us()))
    return turns


def asked(turns: WaitingTurns, now_us: int) -> set[str]:
    """The turns whose questions are due."""
    return {request.turn_id for request in turns.due(now_us)}


def test_a_turn_that_waited_when_its_worker_ended_waits_on_for_the_rest_of_its_grace() -> None:
    turns = took_over({0}, Received((0, NOW_US - 20_000_000, turn("t1"))), ManualClock())
    assert turns.waiting() == 1
    assert asked(turns, NOW_US + GRACE_US - 20_000_001) == set()
    assert asked(turns, NOW_US + GRACE_US - 20_000_000) == {"t1"}
    assert turns.waiting() == 0


def test_a_turn_whose_grace_ran_out_while_nobody_was_there_is_asked_about_at_once() -> None:
    turns = took_over({0}, Received((0, NOW_US - GRACE_US - 5, turn("t1"))), ManualClock())
    assert asked(turns, NOW_US) == {"t1"}


def test_what_was_rated_or_judged_or_could_not_be_judged_is_not_asked_about_again() -> None:
    received = Received(
        *((0, NOW_US - 3, turn(f"t{n}")) for n in range(5)),
        (0, NOW_US - 2, thumb("t0")),
        judged=(verdict("v1", "t1", other_turn_id="t2"), unjudged("v3", "t3", "refused")),
    )
    assert asked(took_over({0}, received, ManualClock()), NOW_US + GRACE_US) == {"t4"}


def test_a_judged_turn_of_another_tenant_is_another_turn() -> None:
    received = Received((0, NOW_US, turn("t1")), judged=(verdict("v1", "t1", tenant="other"),))
    assert asked(took_over({0}, received, ManualClock()), NOW_US + GRACE_US) == {"t1"}


def test_what_is_older_than_a_day_beyond_the_grace_is_left_to_a_replay() -> None:
    oldest = NOW_US - GRACE_US - LOOK_BACK_US
    received = Received((0, oldest, turn("left")), (0, oldest + 1, turn("asked")))
    assert asked(took_over({0}, received, ManualClock()), NOW_US) == {"asked"}


def test_nobody_asks_about_the_turns_of_a_partition_that_another_worker_has() -> None:
    clock = ManualClock()
    turns = took_over(
        {0, 1}, Received((0, NOW_US, turn("t0")), (1, NOW_US, turn("t1")), (2, NOW_US, turn("t2"))), clock
    )
    assert turns.waiting() == 2
    turns.own({1}, {})
    assert turns.waiting() == 1
    assert asked(turns, NOW_US + GRACE_US) == {"t1"}


def test_a_partition_that_stays_keeps_what_it_knows_and_is_not_read_again() -> None:
    clock = ManualClock()
    turns = took_over({0}, Received((0, NOW_US, turn("t0"))), clock)
    facts: Any = Received((0, NOW_US, turn("t9")), (1, NOW_US, turn("t1")))
    turns.own({0, 1}, turns.rebuilt({0, 1}, facts, NOW_US))
    assert asked(turns, NOW_US + GRACE_US) == {"t0", "t1"}


def test_what_comes_while_the_facts_are_read_counts() -> None:
    turns = WaitingTurns(GRACE_S, ManualClock())
    facts: Any = Received((0, NOW_US - 2, turn("rated meanwhile")), (0, NOW_US - 2, turn("there")))
    rebuilt = turns.rebuilt({0}, facts, NOW_US)
    turns.observe(0, thumb("rated meanwhile"), NOW_US)
    turns.observe(0, turn("new"), NOW_US)
    turns.own({0}, rebuilt)
    assert asked(turns, NOW_US + GRACE_US) == {"there", "new"}


@settings(max_examples=60)
@given(
    sent=st.lists(st.tuples(st.booleans(), st.integers(0, 4), st.integers(0, 20_000_000)), max_size=12),
    ended=st.integers(0, 12),
    order=st.randoms(use_true_random=False),
)
def test_a_worker_that_takes_over_at_any_moment_asks_what_the_first_would_have_asked(
    sent: list[tuple[bool, int, int]], ended: int, order: Random
) -> None:
    """Of what was asked already there is a verdict; the facts come in no order."""
    clock, received = ManualClock(), Received()
    told: set[str] = set()
    alone, first = took_over({0}, received, clock), took_over({0}, received, clock)
    expected: set[str] = set()
    for number, (is_turn, which, pause_us) in enumerate(sent):
        if number == ended:
            order.shuffle(received.events)
            judged = tuple(verdict(f"v-{name}", name) for name in told)
            first = took_over({0}, Received(*received.events, judged=judged), clock)
        clock.set_forward(pause_us / 1e6)
        event = turn(f"t{which}") if is_turn else thumb(f"t{which}")
        received.events.append((0, clock.now_us(), event))
        expected |= {request.turn_id for request in alone.observe(0, event, clock.now_us())}
        told |= {request.turn_id for request in first.observe(0, event, clock.now_us())}
    end_us = clock.now_us() + GRACE_US
    assert told | asked(first, end_us) == expected | asked(alone, end_us)


def test_the_question_has_the_id_that_a_replay_gives_it() -> None:
    (request,) = took_over({0}, Received((0, NOW_US, turn("t1"))), ManualClock()).due(NOW_US + GRACE_US)
    assert request.request_id == request_id(("default", "c1", "t1"))


AHEAD_US = 1_000 * GRACE_US


def test_a_turn_that_came_while_the_clock_was_ahead_waits_for_a_grace_period_once_it_is_back() -> None:
    clock = ManualClock()
    turns = took_over({0}, Received(), clock)
    turns.observe(0, turn("before"), NOW_US)
    clock.set_forward(AHEAD_US / 1e6)
    assert [request.turn_id for request in turns.observe(0, turn("meanwhile"), clock.now_us())] == ["before"]
    turns.observe(0, thumb("rated"), clock.now_us())
    assert asked(turns, clock.now_us()) == set()
    clock.set_forward(-AHEAD_US / 1e6)
    turns.observe(0, turn("received-meanwhile"), NOW_US + AHEAD_US)
    assert asked(turns, NOW_US) == set()
    assert asked(turns, NOW_US + GRACE_US - 1) == set()
    assert asked(turns, NOW_US + GRACE_US) == {"meanwhile", "received-meanwhile"}
    turns.observe(0, turn("rated"), NOW_US + GRACE_US)
    assert turns.waiting() == 1  # what was rated is forgotten after a grace period, as always


def test_who_takes_over_what_was_received_while_the_clock_was_ahead_waits_no_longer_than_for_the_rest() -> None:
    turns = took_over({0}, Received((0, NOW_US + AHEAD_US, turn("t1"))), ManualClock())
    assert asked(turns, NOW_US + GRACE_US - 1) == set()
    assert asked(turns, NOW_US + GRACE_US) == {"t1"}


def test_an_edit_without_a_name_is_asked_about_by_whoever_has_its_partition_though_its_turn_was_judged() -> None:
    given = rating("e", "t1", "edit", "over there", user_id=None)
    received = Received((0, NOW_US - 1, turn("t1")), (0, NOW_US, given), judged=(verdict("v", "t1", score=0.5),))
    turns = took_over({0}, received, ManualClock())
    assert turns.due_edits(NOW_US + GRACE_US - 1) == []
    due = turns.due_edits(NOW_US + GRACE_US)
    (question,) = edit_questions(known(turn("t1", reply="hidden"), turn("t1", reply="here", origin="gateway")), due)
    assert (question.reply, question.other_reply) == ("over there", "here")
    assert question.edit == edit_digest("here", "over there")


def test_an_edit_of_a_turn_that_was_cut_or_is_unknown_or_that_changes_nothing_is_no_question() -> None:
    given = rating("e", "t1", "edit", "over there", user_id=None)
    for served in (turn("t1", finish_reason="length"), turn("t2"), turn("t1", reply=" over there\n")):
        assert edit_questions(known(served), [given]) == []


def known(*turns: Turn) -> Any:
    """Facts of these turns."""
    return SimpleNamespace(turns_of=lambda keys: [(t, content_hash(t)) for t in turns if t.key in keys])
