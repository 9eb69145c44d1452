"""What every clock promises, of the system's and of the one that tests tell the time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from feedback.clock import Clock, SystemClock
from tests.fakes import ManualClock

CLOCKS = pytest.mark.parametrize("make", [SystemClock, ManualClock])
LONG_S = 3_600.0
SHORT_S = 0.001


async def passing(clock: Clock, waiting: Awaitable[Any]) -> Any:
    """The outcome of a short wait; a clock that is told the time is told it."""
    task = asyncio.ensure_future(waiting)
    while not task.done():
        await (clock.advance(SHORT_S) if isinstance(clock, ManualClock) else asyncio.sleep(0))
    return task.result()


@CLOCKS
async def test_a_wait_ends_with_its_event_and_says_so(make: Callable[[], Clock]) -> None:
    clock, event = make(), asyncio.Event()
    waiting = asyncio.create_task(clock.wait(event, LONG_S))
    await asyncio.sleep(0)
    event.set()
    assert await waiting is True


@CLOCKS
async def test_a_wait_ends_with_its_time_and_says_that_nothing_came(make: Callable[[], Clock]) -> None:
    clock = make()
    assert await passing(clock, clock.wait(asyncio.Event(), SHORT_S)) is False


@CLOCKS
@pytest.mark.parametrize("seconds", [0.0, -1.0, LONG_S])
async def test_an_event_that_was_set_before_is_seen_however_little_time_there_is(
    make: Callable[[], Clock], seconds: float
) -> None:
    clock, event = make(), asyncio.Event()
    event.set()
    assert await passing(clock, clock.wait(event, seconds)) is True


@CLOCKS
async def test_who_is_cancelled_in_a_wait_is_cancelled(make: Callable[[], Clock]) -> None:
    waiting = asyncio.create_task(make().wait(asyncio.Event(), LONG_S))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting


@CLOCKS
async def test_what_takes_longer_than_its_time_limit_is_cut_off_as_a_timeout(make: Callable[[], Clock]) -> None:
    clock, cut = make(), False

    async def limited() -> None:
        nonlocal cut
        async with clock.timeout(SHORT_S):
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                cut = True
                raise

    with pytest.raises(TimeoutError):
        await passing(clock, limited())
    assert cut


@CLOCKS
async def test_what_is_done_within_its_time_limit_goes_on_as_if_there_were_none(make: Callable[[], Clock]) -> None:
    clock = make()
    async with clock.timeout(LONG_S):
        await passing(clock, clock.sleep(0))
    await passing(clock, clock.sleep(SHORT_S))


@CLOCKS
async def test_as_much_time_passes_as_was_slept(make: Callable[[], Clock]) -> None:
    clock = make()
    before_s = clock.monotonic_s()
    await passing(clock, clock.sleep(SHORT_S))
    assert clock.monotonic_s() - before_s >= SHORT_S * 0.9  # a loop may wake who sleeps a tick too early


def test_the_systems_time_is_microseconds_since_the_epoch() -> None:
    assert 1_700_000_000_000_000 < SystemClock().now_us() < 5_000_000_000_000_000


def test_a_pause_of_the_system_lets_its_time_pass() -> None:
    clock = SystemClock()
    before_s = clock.monotonic_s()
    clock.pause(SHORT_S)
    assert clock.monotonic_s() - before_s >= SHORT_S
