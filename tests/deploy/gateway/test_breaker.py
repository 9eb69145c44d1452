"""Calls that fail or hang: given up in time, then refused at once, until somebody found that all is well again."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator

import pytest

from deploy.gateway.breaker import Away, Breaker
from tests.fakes import ManualClock, until


class Far:
    """Answers when it may."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.calls = 0

    def __call__(self) -> int:
        self.calls += 1
        self.go.wait()
        return 42


@pytest.fixture
async def breaker(clock: ManualClock) -> AsyncIterator[Breaker]:
    breaker = Breaker("the far end", 2, 1.5, clock)
    yield breaker
    breaker.close()


@pytest.fixture
def far() -> Far:
    return Far()


async def test_an_answer_comes_through(breaker: Breaker, far: Far) -> None:
    far.go.set()
    assert await breaker.call(far) == 42
    assert breaker.away_s is None


async def test_a_call_that_hangs_is_given_up_and_all_others_are_refused_at_once(
    breaker: Breaker, far: Far, clock: ManualClock
) -> None:
    hanging = asyncio.ensure_future(breaker.call(far))
    await until(lambda: far.calls == 1)
    await clock.advance(1.5)
    with pytest.raises(Away, match="the far end can't be used"):
        await hanging
    with pytest.raises(Away):
        await breaker.call(far)
    assert far.calls == 1
    await clock.advance(10)
    assert breaker.away_s == 10
    far.go.set()


async def test_what_it_raises_is_away_and_a_look_is_let_through(breaker: Breaker, far: Far, clock: ManualClock) -> None:
    with pytest.raises(Away):
        await breaker.call(lambda: 1 / 0)
    far.go.set()
    assert await breaker.look(far) == 42
    with pytest.raises(Away):
        await breaker.call(far)
    breaker.back()
    assert await breaker.call(far) == 42


async def test_what_is_closed_refuses(breaker: Breaker, far: Far) -> None:
    breaker.close()
    with pytest.raises(Away):
        await breaker.call(far)
