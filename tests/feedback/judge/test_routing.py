"""Routing: what nobody rated within its grace period goes to the judge, once."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feedback.judge.routing import (
    LEAST_EDIT_GRACE_US,
    State,
    due_edits,
    merge,
    request_id,
    sampled,
    step,
    unrouted,
)
from feedback.labels import exchanges
from feedback.records import JudgeRequest, Rating, Turn
from tests.feedback.builders import rating

GRACE_US = 1_000


def turn(name: str, replaces: str | None = None, **changes: Any) -> Turn:
    fields: dict[str, Any] = {
        "tenant": "d", "event_id": f"e-{name}", "conversation_id": "c", "turn_id": name, "occurred_at_us": 1,
        "messages": [{"role": "user", "content": "hello"}], "reply": f"reply {name}", "policy": "p", "replaces": replaces,
    }  # fmt: skip
    return Turn(**{**fields, **changes})


def thumbs(name: str, value: bool | None = True) -> Rating:
    return Rating(
        tenant="d", event_id=f"r-{name}", conversation_id="c", turn_id=name, occurred_at_us=1, source="user",
        kind="thumbs", value=value,
    )  # fmt: skip


def run(events: list[Turn | Rating], state: State | None = None) -> list[JudgeRequest]:
    state = state or State(GRACE_US)
    found = [request for event in events for request in step(state, event, 0, 0)]
    return found + step(state, None, GRACE_US, GRACE_US)


def test_an_unrated_turn_is_routed_when_its_grace_is_over_and_not_before() -> None:
    state = State(GRACE_US)
    assert step(state, turn("a"), 0, 0) == []
    assert step(state, None, GRACE_US - 1, GRACE_US - 1) == []
    assert [request.turn_id for request in step(state, None, GRACE_US, GRACE_US)] == ["a"]
    assert step(state, None, 9 * GRACE_US, 9 * GRACE_US) == []


def test_a_rated_turn_is_not_routed_even_when_the_rating_came_first() -> None:
    assert run([turn("a"), thumbs("a")]) == []
    assert run([thumbs("a"), turn("a")]) == []


def test_a_comment_or_a_retraction_is_no_rating() -> None:
    assert len(run([turn("a"), thumbs("a", None)])) == 1


def test_what_may_not_be_learned_from_is_not_routed() -> None:
    assert run([turn("a", train=False), turn("b", outcome="aborted"), turn("c", reply="")]) == []


def test_a_regenerated_reply_is_compared_with_the_one_it_replaced() -> None:
    (request,) = run([turn("a"), turn("b", replaces="a")])
    assert (request.turn_id, request.other_turn_id) == ("b", "a")
    assert (request.reply, request.other_reply) == ("reply b", "reply a")


def test_a_regenerated_reply_is_compared_although_the_clock_of_the_system_moved_on() -> None:
    def at(clock: str) -> list[Any]:
        return [{"role": "system", "content": f"It is {clock}."}, {"role": "user", "content": "where?"}]

    (request,) = run([turn("a", messages=at("10:15:00")), turn("b", messages=at("10:15:20"), replaces="a")])
    assert (request.turn_id, request.other_turn_id) == ("b", "a")


def test_the_judge_is_asked_about_the_answer_and_not_about_its_thoughts() -> None:
    thinking = {
        "role": "assistant",
        "content": [{"type": "text", "text": "<think>hm</think>Yes,"}, {"type": "text", "text": "at nine."}],
    }
    assert [request.reply for request in run([turn("a", reply=thinking)])] == ["Yes,\nat nine."]
    assert run([turn("a", reply="<think>hm"), turn("b", reply="\u200b"), turn("c", finish_reason="length")]) == []


def test_a_rated_one_of_two_leaves_a_single_question() -> None:
    (request,) = run([turn("a"), turn("b", replaces="a"), thumbs("a")])
    assert (request.turn_id, request.other_turn_id) == ("b", None)


def test_the_state_holds_nothing_once_everything_is_due() -> None:
    state = State(GRACE_US)
    run([turn("a"), thumbs("b"), thumbs("z")], state)
    step(state, None, 3 * GRACE_US, 3 * GRACE_US)
    assert (state.waiting, state.settled, state.timers, state.replacing) == ({}, {}, [], {})


def test_a_pair_waits_until_both_had_their_grace() -> None:
    state = State(GRACE_US)
    assert step(state, turn("a"), 0, 0) == []
    assert step(state, turn("b", replaces="a"), 900, 900) == []
    assert step(state, None, GRACE_US + 899, GRACE_US + 899) == []
    (request,) = step(state, None, GRACE_US + 900, GRACE_US + 900)
    assert (request.turn_id, request.other_turn_id) == ("b", "a")


def test_a_rating_of_the_second_reply_within_its_own_grace_counts() -> None:
    state = State(GRACE_US)
    step(state, turn("a"), 0, 0)
    step(state, turn("b", replaces="a"), 900, 900)
    assert step(state, None, 1_499, 1_499) == []
    (request,) = step(state, thumbs("b"), 1_500, 1_500) + step(state, None, GRACE_US + 900, GRACE_US + 900)
    assert (request.turn_id, request.other_turn_id) == ("a", None)


@pytest.mark.parametrize(
    "second",
    [
        turn("b", replaces="a", conversation_id="another"),
        turn("b", replaces="a", tenant="another"),
        turn("b", replaces="a", messages=[{"role": "user", "content": "something else"}]),
    ],
)
def test_replies_to_different_questions_are_not_compared(second: Turn) -> None:
    assert [request.other_turn_id for request in run([turn("a"), second])] == [None, None]


def test_a_turn_that_says_it_replaces_itself_is_scored_alone() -> None:
    (request,) = run([turn("a", replaces="a")])
    assert (request.turn_id, request.other_turn_id) == ("a", None)


def test_a_turn_that_comes_again_after_it_was_routed_is_not_routed_again() -> None:
    state = State(GRACE_US)
    assert len(run([turn("a")], state)) == 1
    assert step(state, turn("a"), 2 * GRACE_US - 1, 2 * GRACE_US - 1) == []
    assert step(state, None, 9 * GRACE_US, 9 * GRACE_US) == []


def test_an_event_costs_the_same_however_many_turns_wait() -> None:
    looked_at = 0

    class Counting(dict[Any, Any]):
        def items(self) -> Any:
            nonlocal looked_at
            looked_at += len(self)
            return super().items()

        def __iter__(self) -> Iterator[Any]:
            nonlocal looked_at
            looked_at += len(self)
            return super().__iter__()

    state = State(GRACE_US, waiting=Counting())
    for number in range(500):
        step(state, turn(f"t{number}"), 0, 0)
    assert (len(state.waiting), looked_at) == (500, 0)


def test_other_turns_have_other_questions() -> None:
    keys = [("d", "c", "a"), ("e", "c", "a"), ("d", "d", "a"), ("d", "c", "b")]
    assert len({request_id(key, other) for key in keys for other in (None, "o")}) == 8


names = st.sampled_from("abcdef")
events = st.lists(
    st.one_of(
        names.map(turn),
        names.map(thumbs),
        st.tuples(names, names).map(lambda pair: turn(pair[0] + "2", pair[1])),
        st.tuples(names, names).map(lambda pair: turn(pair[0] + "3", pair[1] + "2")),
        st.tuples(names, names).map(lambda pair: turn(pair[0], pair[1])),
    ),
    max_size=12,
)


@given(events, st.randoms(use_true_random=False))
def test_any_order_and_any_duplicates_route_the_same(sent: list[Turn | Rating], order: Random) -> None:
    distinct = list({event.event_id: event for event in sent}.values())
    shuffled = distinct + distinct[: len(distinct) // 2]
    order.shuffle(shuffled)
    expected, found = (sorted(request.request_id for request in run(list(many))) for many in (distinct, shuffled))
    assert found == expected


@given(events, st.randoms(use_true_random=False))
def test_when_within_the_grace_period_an_event_comes_decides_nothing(sent: list[Turn | Rating], order: Random) -> None:
    distinct = list({event.event_id: event for event in sent}.values())
    state, found = State(GRACE_US), list[JudgeRequest]()
    times = sorted(order.randrange(GRACE_US) for _ in distinct)
    for at_us, event in zip(times, order.sample(distinct, len(distinct)), strict=True):
        found += step(state, event, at_us, at_us)
    for now_us in range(GRACE_US, 4 * GRACE_US, 97):
        found += step(state, None, now_us, now_us)
    ids = [request.request_id for request in found]
    assert sorted(ids) == sorted(request.request_id for request in run(distinct))
    assert len(set(ids)) == len(ids)
    assert (state.waiting, state.settled, state.timers, state.replacing) == ({}, {}, [], {})


@given(events)
def test_live_and_replay_ask_the_same_questions(sent: list[Turn | Rating]) -> None:
    distinct = list({event.event_id: event for event in sent}.values())
    live = {request.request_id for request in run(distinct)}
    turns = [event for event in distinct if isinstance(event, Turn)]
    ratings = [(event, event.event_id) for event in distinct if isinstance(event, Rating)]
    said = exchanges.said(ratings, [], lambda keys: keys, 2**62)
    settled = {key for key, given in said.ratings.items() if exchanges.is_rated(given)}
    assert {request.request_id for request in unrouted(turns, settled)} == live


def asked_about(number: int) -> JudgeRequest:
    return JudgeRequest(
        request_id=f"q{number}", tenant="d", conversation_id="c", turn_id=f"t{number}", messages=[], reply="r"
    )


@given(st.sets(st.integers(0, 10_000)), st.integers(0, 50), st.integers(1, 10))
def test_a_sample_leaves_nothing_out_of_the_account_and_shrinks_as_more_wait(
    numbers: set[int], waiting: int, room: int
) -> None:
    requests = [asked_about(number) for number in numbers]
    asked, left = sampled(requests, waiting, room)
    assert sorted([*asked, *left], key=lambda r: r.request_id) == sorted(requests, key=lambda r: r.request_id)
    assert {r.request_id for r in sampled(requests, waiting + room, room)[0]} <= {r.request_id for r in asked}
    if waiting < room:
        assert left == []


def test_half_is_asked_at_the_limit_and_a_quarter_at_twice_the_limit() -> None:
    requests = [asked_about(number) for number in range(4_000)]
    assert 1_900 < len(sampled(requests, 100, 100)[0]) < 2_100
    assert 900 < len(sampled(requests, 200, 100)[0]) < 1_100


def edit(event_id: str, text: str | None, at_us: int = 0, **changes: Any) -> Rating:
    return rating(event_id, "t1", "edit", text, occurred_at_us=at_us, **{"user_id": None, **changes})


def test_the_last_edit_without_a_name_is_due_once_after_its_grace() -> None:
    state = State(GRACE_US)
    for number in (2, 1):
        step(state, edit(f"e{number}", f"text {number}", number), number, number)
    step(state, edit("named", "mine", 9, user_id="ann"), 3, 3)
    assert due_edits(state, LEAST_EDIT_GRACE_US) == []
    assert [due.value for due in due_edits(state, 1 + LEAST_EDIT_GRACE_US)] == ["text 2"]
    assert due_edits(state, 9 * LEAST_EDIT_GRACE_US) == []


def test_an_edit_that_was_taken_back_is_not_asked_about() -> None:
    state, other = State(GRACE_US), State(GRACE_US)
    step(state, edit("e1", "text", 1), 1, 1)
    step(other, edit("e2", None, 2), 2, 2)
    merge(state, other)
    assert due_edits(state, 9 * LEAST_EDIT_GRACE_US) == []


def test_what_files_brought_is_asked_about_by_a_replay_alone() -> None:
    state = State(GRACE_US)
    by_file, live = turn("t1", origin="file"), turn("t2")
    for event in (by_file, live, edit("e", "text", origin="file")):
        step(state, event, 0, 0)
    assert [request.turn_id for request in step(state, None, GRACE_US, GRACE_US)] == ["t2"]
    assert due_edits(state, 9 * LEAST_EDIT_GRACE_US) == []
    assert {request.turn_id for request in unrouted([by_file, live], ())} == {"t1", "t2"}
