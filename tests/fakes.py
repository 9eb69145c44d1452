"""Hand-written stand-ins for what is slow or far away: an engine that says what it is told, a log in memory."""

from __future__ import annotations

import asyncio
import heapq
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Literal

from feedback.clock import SystemClock
from feedback.intake.edge import Record
from feedback.records import Message
from models.bases import Base
from models.errors import JobFailed

CLOCK = SystemClock()
"""For tests that have nothing to wait for."""

BASE = Base("/nowhere", "tiny-0123456789ab", "r1", "0" * 64, "1" * 64)
DEADLINE_S = 60.0
QUICK_LOOKS, MOST_PAUSE_S = 5, 0.25
PACE_S = 0.001
"""Between two words of an endless reply: as fast as they can be made, they would leave the loop no time for anything else."""


class ManualClock:
    """Time that passes only when told. Who waits is woken in order; `live_through` also lets all of them wait again.

    Who waits in a thread (`pause`) is not held up: that wait is over at once.
    """

    def __init__(self, now_us: int = 1_800_000_000_000_000) -> None:
        self._started_us = self._now_us = now_us
        self._waiting: list[tuple[int, int, asyncio.Future[None], asyncio.Task[Any] | None]] = []
        self._timeouts: list[tuple[int, asyncio.Timeout]] = []
        self.timeouts = 0
        """How many blocks have begun that may take only so long."""
        self._turn = 0

    def now_us(self) -> int:
        return self._now_us

    def monotonic_s(self) -> float:
        return (self._now_us - self._started_us) / 1e6

    def pause(self, seconds: float) -> None:
        """Over at once."""

    @property
    def waiting(self) -> int:
        """How many coroutines wait for time to pass."""
        return sum(not future.done() for _, _, future, _ in self._waiting)

    async def sleep(self, seconds: float) -> None:
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        await self._later(seconds)

    async def wait(self, event: asyncio.Event, seconds: float) -> bool:
        later, setting = self._later(seconds), asyncio.ensure_future(event.wait())
        ours: list[asyncio.Future[Any]] = [later, setting]
        try:
            await asyncio.wait(ours, return_when=asyncio.FIRST_COMPLETED)
        finally:
            later.cancel()
            setting.cancel()
        return event.is_set()

    def _later(self, seconds: float) -> asyncio.Future[None]:
        future = asyncio.get_running_loop().create_future()
        self._turn += 1
        entry = (self._now_us + round(seconds * 1e6), self._turn, future, asyncio.current_task())
        heapq.heappush(self._waiting, entry)
        return future

    @asynccontextmanager
    async def timeout(self, seconds: float) -> AsyncIterator[asyncio.Timeout]:
        async with asyncio.timeout(None) as limit:
            entry = (self._now_us + round(seconds * 1e6), limit)
            self._timeouts.append(entry)
            self.timeouts += 1
            try:
                yield limit
            finally:
                self._timeouts.remove(entry)

    def set_forward(self, seconds: float) -> None:
        """Let time pass where nobody waits."""
        self._now_us += round(seconds * 1e6)

    def jump(self, seconds: float) -> None:
        """Somebody sets the clock, ahead or back: no time passes."""
        self._now_us += round(seconds * 1e6)
        self._started_us += round(seconds * 1e6)

    async def advance(self, seconds: float) -> None:
        """Let time pass for those that wait, one moment after another."""
        until_us = self._now_us + round(seconds * 1e6)
        while self._waiting and self._waiting[0][0] <= until_us:
            at_us, _, future, _ = heapq.heappop(self._waiting)
            self._now_us = max(self._now_us, at_us)
            if not future.done():
                future.set_result(None)
                await asyncio.sleep(0)
        self._now_us = until_us
        self._end_timeouts()
        await asyncio.sleep(0)

    async def live_through(self, seconds: float, step_s: float) -> None:
        """Let time pass for a whole service, a step at once, as if the machine had slept so long.

        After each step those whose moment has come are woken one after another, each when the one before waits for time
        again or has ended, whatever it did in threads meanwhile. Fails where one does neither within DEADLINE_S.
        """
        until_us = self._now_us + round(seconds * 1e6)
        while self._now_us < until_us:
            self._now_us = min(self._now_us + round(step_s * 1e6), until_us)
            self._end_timeouts()
            due = []
            while self._waiting and self._waiting[0][0] <= self._now_us:
                due.append(heapq.heappop(self._waiting))
            for _, _, future, task in due:
                if not future.done():
                    future.set_result(None)
                    await until(lambda task=task: self._settled(task), f"{task} waits again")  # type: ignore[misc]

    def _settled(self, task: asyncio.Task[Any] | None) -> bool:
        """Whether it has nothing to do before time goes on."""
        return (
            task is None or task.done() or any(its is task and not future.done() for _, _, future, its in self._waiting)
        )

    def _end_timeouts(self) -> None:
        for at_us, limit in self._timeouts:
            if at_us <= self._now_us and not limit.expired():
                limit.reschedule(asyncio.get_running_loop().time())


class FakeGeneration:
    """Words one after another; each waits for `engine.go`."""

    def __init__(self, engine: FakeEngine, words: Sequence[str], limit: int) -> None:
        self.prompt_tokens, self.completion_tokens = 7, 0
        self.finish_reason: Literal["stop", "length"] | None = None
        self._engine, self._words, self._limit = engine, list(words), limit
        engine.under_way += 1
        self._open = True

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        assert self._engine.go.wait(DEADLINE_S)
        if self._engine.breaks_after == self.completion_tokens:
            raise RuntimeError("out of memory")
        if self.completion_tokens == min(self._limit, len(self._words)) and not self._engine.endless:
            self.finish_reason = "stop" if self._limit >= len(self._words) else "length"
            self.close()
            raise StopIteration
        if self._engine.endless:
            time.sleep(PACE_S)
        self.completion_tokens += 1
        return self._words[(self.completion_tokens - 1) % len(self._words)]

    def close(self) -> None:
        if self._open:
            self._open = False
            self._engine.under_way -= 1

    def step(self) -> str | Exception:
        try:
            return next(self, "")
        except RuntimeError as error:
            return error


class FakeEngine:
    """Replies with the adapter's first digits (or `base`) and then `words`; loads any adapter that is not `broken`."""

    def __init__(self, base: Base = BASE) -> None:
        self.base = base
        self.words = [" says", " hello", "."]
        self.broken: set[str] = set()
        self.refuses: str | None = None
        """Why no chat fits the base's template."""
        self.breaks_after: int | None = None
        self.endless = False
        """Begins again after the last word, until nobody wants more."""
        self.go = threading.Event()
        self.go.set()
        self.under_way = 0
        self.asked: list[dict[str, Any]] = []
        self.loads: list[str] = []
        self._adapters: set[str] = set()

    @property
    def adapters(self) -> frozenset[str]:
        return frozenset(self._adapters)

    def load_adapter(self, digest: str, path: Path) -> None:
        self.loads.append(digest)
        if digest in self.broken:
            raise ValueError(f"{path.name[:4]} is broken")
        self._adapters.add(digest)

    def unload_adapter(self, digest: str) -> None:
        self._adapters.discard(digest)

    def check(self, messages: Sequence[Message], *, max_tokens: int = 256) -> None:
        if self.refuses is not None:
            raise JobFailed(self.refuses)

    def generate(
        self, messages: Sequence[Message], adapter: str | None = None, *, max_tokens: int = 256, **options: Any
    ) -> FakeGeneration:
        if adapter is not None and adapter not in self._adapters:
            raise LookupError(f"adapter {adapter[:16]} is not loaded")
        self.asked.append({"messages": messages, "adapter": adapter, "max_tokens": max_tokens, **options})
        return FakeGeneration(self, [adapter[:4] if adapter else "base", *self.words], max_tokens)

    def step(self, generations: Sequence[FakeGeneration]) -> list[str | Exception]:
        return [generation.step() for generation in generations]


class MemoryProducer:
    """Keeps what is sent; with `broken` set it can't, and with `go` cleared it takes its time. Also the gateway's spool."""

    full = False

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.broken = False
        self.go = asyncio.Event()
        self.go.set()

    async def send(self, records: Sequence[Record], releases: str | None = None) -> None:
        await self.go.wait()
        if self.broken:
            raise OSError("no space left on device")
        self.records.extend(records)

    async def hold(self, name: str, record: Record) -> None:
        if self.broken:
            raise OSError("no space left on device")


async def until(condition: Callable[[], bool | Awaitable[bool]], what: str = "the condition") -> None:
    """Wait for it, at most DEADLINE_S."""
    deadline, looks = time.monotonic() + DEADLINE_S, 0
    while True:
        began_s = time.thread_time()
        found = condition()
        if found if isinstance(found, bool) else await found:
            return
        took_s = time.thread_time() - began_s
        assert time.monotonic() < deadline, f"{what} did not come about within {DEADLINE_S} s"
        looks += 1
        # a look that is dear leaves the core to who is waited for
        await asyncio.sleep(0 if looks < QUICK_LOOKS else min(MOST_PAUSE_S, max(0.005, 4 * took_s)))
