"""Rests: one after another for all who share a pace, of bounded length, and none for those who come after a while."""

from __future__ import annotations

import asyncio

from deploy.web.pace import APART_S, LATE_S, MOST_S, Late, Pace
from tests.fakes import ManualClock, until


def test_all_who_share_a_pace_rest_one_after_another() -> None:
    pace = Pace(ManualClock())
    assert [pace.rest_s(0.25), pace.rest_s(0.25), pace.rest_s(0.25)] == [0.25, 0.5, 0.75]


def test_whoever_comes_after_a_while_rests_no_longer_than_the_first() -> None:
    clock = ManualClock()
    pace = Pace(clock)
    for _ in range(3):
        pace.rest_s(0.25)
    clock.set_forward(1)
    assert pace.rest_s(0.25) == 0.25


def test_a_rest_may_have_a_least_length_that_is_not_added_up() -> None:
    pace = Pace(ManualClock())
    assert [pace.rest_s(0.25, 1.0), pace.rest_s(0.25, 1.0)] == [1.0, 1.25]


def test_nobody_rests_for_longer_than_is_bearable() -> None:
    pace = Pace(ManualClock())
    assert max(pace.rest_s(MOST_S / 3) for _ in range(10)) == MOST_S


async def test_who_sent_too_much_is_told_late_and_one_after_another() -> None:
    clock = ManualClock()
    late = Late(clock)
    told = [asyncio.create_task(late.wait()) for _ in range(2)]
    await until(lambda: clock.waiting == 2, "both to wait")
    await clock.advance(LATE_S)
    await until(told[0].done, "the first to be told")
    assert not told[1].done()
    await clock.advance(APART_S)
    await until(told[1].done, "the second to be told")


async def test_nobody_is_kept_waiting_once_the_server_stops() -> None:
    late = Late(ManualClock())
    waiting = asyncio.create_task(late.wait())
    await asyncio.sleep(0)
    late.end()
    await waiting
    await late.wait()
