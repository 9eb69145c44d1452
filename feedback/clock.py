"""The one clock: now, monotonic time and waiting. It is passed down; nothing else asks the system (ruff sees to it).

So a test, a replay or a demo of three weeks takes as long as its work takes. It lies here, below every other package, because
all of them wait for something.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol


class Clock(Protocol):
    """Any thread may ask for the time; the coroutines belong to the event loop that awaits them."""

    def now_us(self) -> int:
        """Microseconds since the epoch, UTC."""

    def monotonic_s(self) -> float:
        """Seconds since some moment; never goes back."""

    async def sleep(self, seconds: float) -> None:
        """Let so much time pass."""

    async def wait(self, event: asyncio.Event, seconds: float) -> bool:
        """Until the event is set, at most so long; whether it is."""

    def timeout(self, seconds: float) -> AbstractAsyncContextManager[Any]:
        """`async with`: raises TimeoutError where the block takes longer."""

    def pause(self, seconds: float) -> None:
        """Let so much time pass in this thread."""


class SystemClock:
    """The machine's own."""

    def now_us(self) -> int:
        return time.time_ns() // 1_000

    def monotonic_s(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def wait(self, event: asyncio.Event, seconds: float) -> bool:
        try:
            await asyncio.wait_for(event.wait(), seconds)
        except TimeoutError:
            return event.is_set()
        return True

    def timeout(self, seconds: float) -> AbstractAsyncContextManager[Any]:
        return asyncio.timeout(seconds)

    def pause(self, seconds: float) -> None:
        time.sleep(seconds)
