"""A world in which the same seed makes the same things happen: its event loop's clock is virtual, its threads are not."""

from __future__ import annotations

import asyncio
import random
from asyncio import base_events
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from feedback.clock import SystemClock

START_S = 1_790_000_000


class Deadlock(Exception):
    """Nothing is left that could ever happen."""


class Loop(base_events.BaseEventLoop):
    """Never waits: when nothing is ready, the clock moves to what comes next."""

    def __init__(self, chance: random.Random) -> None:
        super().__init__()
        self.chance = chance
        self._now_s = 0.0
        self._selector = self

    def time(self) -> float:
        return self._now_s

    def select(self, timeout: float | None) -> list[Any]:
        """What `BaseEventLoop` asks of a selector."""
        if timeout is None:
            raise Deadlock
        self._now_s += timeout
        return []

    def _process_events(self, events: list[Any]) -> None: ...

    def _write_to_self(self) -> None: ...

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:  # type: ignore[override]
        """A thread's work is done at once, some time later."""
        done = self.create_future()

        def work() -> None:
            if done.cancelled():
                return
            try:
                result = func(*args)
            except Exception as error:
                done.set_exception(error)
            else:
                done.set_result(result)

        self.call_later(self.delay_s(), work)
        return done

    def delay_s(self) -> float:
        """Mostly moments, now and then seconds: so that anything may overtake anything."""
        return self.chance.choice((0.0, 0.001, 0.01, 0.1, 1.0)) * self.chance.random()


@contextmanager
def virtual(chance: random.Random) -> Iterator[Loop]:
    """A loop whose time is everybody's time."""
    loop = Loop(chance)
    asyncio.set_event_loop(loop)
    try:
        yield loop
    finally:
        asyncio.set_event_loop(None)
        loop.close()


async def pause(loop: Loop) -> None:
    """As long as it takes."""
    await asyncio.sleep(loop.delay_s())


class LoopClock(SystemClock):
    """The loop's time. A thread's work is done at once, and so is its waiting."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop

    def now_us(self) -> int:
        return int((START_S + self._loop.time()) * 1e6)

    def monotonic_s(self) -> float:
        return self._loop.time()

    def pause(self, seconds: float) -> None: ...
