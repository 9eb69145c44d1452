"""Who is asked next: the least loaded of those that are well."""

from __future__ import annotations

import pytest

from deploy.engine.remote.replicas import FIRST_PAUSE_S, LONGEST_PAUSE_S, Replica, Replicas
from tests.fakes import ManualClock

A, B, C = "http://a/v1", "http://b/v1", "http://c/v1"


@pytest.fixture
def replicas(clock: ManualClock) -> Replicas:
    return Replicas([A, B, C], clock)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


def chosen(replicas: Replicas, *tried: str) -> Replica:
    replica = replicas.choose(tried)
    assert replica is not None
    return replica


def fail(replicas: Replicas, replica: Replica, times: int = 3) -> None:
    for _ in range(times):
        replicas.failed(replica, "it answered 503")


def test_the_least_loaded_is_asked(replicas: Replicas) -> None:
    a, b, c = replicas.all
    with replicas.asking(a), replicas.asking(b), replicas.asking(a):
        assert chosen(replicas) is c
        with replicas.asking(c), replicas.asking(c):
            assert chosen(replicas) is b
    assert [replica.under_way for replica in replicas.all] == [0, 0, 0]


def test_who_was_tried_is_not_asked_again(replicas: Replicas) -> None:
    assert chosen(replicas, A).url == B
    assert chosen(replicas, A, B).url == C
    assert replicas.choose([A, B, C]) is None


def test_three_failures_in_a_row_leave_one_alone_for_a_while(replicas: Replicas, clock: ManualClock) -> None:
    a = replicas.all[0]
    fail(replicas, a, 2)
    assert chosen(replicas) is a
    fail(replicas, a, 1)
    assert chosen(replicas).url == B
    clock.set_forward(FIRST_PAUSE_S)
    assert chosen(replicas) is a


def test_an_answer_between_two_failures_makes_it_well(replicas: Replicas) -> None:
    a = replicas.all[0]
    fail(replicas, a, 2)
    replicas.answered(a)
    fail(replicas, a, 2)
    assert chosen(replicas) is a


def test_it_is_left_alone_for_longer_each_time_but_not_for_ever(replicas: Replicas, clock: ManualClock) -> None:
    a = replicas.all[0]
    fail(replicas, a)
    pauses = [a.until_s - clock.monotonic_s()]
    for _ in range(12):
        clock.set_forward(a.until_s - clock.monotonic_s())
        fail(replicas, a, 1)
        pauses.append(a.until_s - clock.monotonic_s())
    assert pauses == sorted(pauses)
    assert (pauses[0], pauses[1], pauses[-1]) == (FIRST_PAUSE_S, 2 * FIRST_PAUSE_S, LONGEST_PAUSE_S)


def test_a_hundred_that_fail_at_the_same_moment_are_one_misfortune(replicas: Replicas, clock: ManualClock) -> None:
    a = replicas.all[0]
    fail(replicas, a, 100)
    clock.set_forward(FIRST_PAUSE_S)
    assert chosen(replicas) is a


def test_only_when_all_are_left_alone_it_says_so_and_why(replicas: Replicas, clock: ManualClock) -> None:
    for replica in replicas.all:
        assert replicas.away is None
        fail(replicas, replica)
    assert replicas.choose() is None
    assert replicas.away == "; ".join(f"{url}: it answered 503" for url in (A, B, C))
    clock.set_forward(FIRST_PAUSE_S)
    assert replicas.away is None
