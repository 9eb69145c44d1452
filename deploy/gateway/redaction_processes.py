"""Processes that redact (feedback/privacy/worker.py): started when first needed, and ended when one takes too long."""

from __future__ import annotations

import asyncio
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from contextlib import suppress

import structlog

from feedback.clock import Clock
from feedback.privacy.worker import HEAD_BYTES, frame

LIMIT_S = 5.0
"""For one event. Then its process is ended: there is no other way to stop it."""
QUEUE_S = 5.0
"""How long an event waits for a process at most."""
START_S = 30.0
PROCESSES = 2
MAX_WAITING = 64
MAX_CONTENT_BYTES = 3_000_000
"""More than any event has that is to be kept; so the queue takes at most 200 MB."""

log = structlog.get_logger()


class Unredactable(Exception):
    """This can't be redacted, or not in time: a sentence that says why, without a word of it."""


class RedactionProcesses:
    """At most `processes` at once. Belongs to the loop that first asks it."""

    def __init__(
        self, clock: Clock, processes: int = PROCESSES, limit_s: float = LIMIT_S, max_waiting: int = MAX_WAITING
    ) -> None:
        self._clock, self._limit_s, self._max_waiting = clock, limit_s, max_waiting
        self._all = [_Worker(clock, limit_s) for _ in range(processes)]
        self._idle: asyncio.LifoQueue[_Worker] = asyncio.LifoQueue()
        for worker in reversed(self._all):
            self._idle.put_nowait(worker)
        self._waiting, self._closed = 0, False

    async def redacted(self, content: bytes) -> bytes:
        """The event's parts, redacted; both as MessagePack. Raises Unredactable."""
        if self._closed:
            raise Unredactable("the gateway is stopping")
        if len(content) > MAX_CONTENT_BYTES:
            raise Unredactable(f"it has more than {MAX_CONTENT_BYTES} bytes")
        worker = await self._free()
        try:
            return await worker.redacted(content)
        finally:
            self._idle.put_nowait(worker)

    async def close(self) -> None:
        """End them all, also those that are busy."""
        self._closed = True
        for worker in self._all:
            await worker.end()

    async def _free(self) -> _Worker:
        if self._waiting >= self._max_waiting:
            raise Unredactable(f"{self._waiting} others are waiting to be redacted")
        self._waiting += 1
        try:
            async with self._clock.timeout(QUEUE_S):
                return await self._idle.get()
        except TimeoutError:
            raise Unredactable(f"no process was free to redact it within {QUEUE_S:g} s") from None
        finally:
            self._waiting -= 1


class _Worker:
    """One process, for one caller at a time."""

    def __init__(self, clock: Clock, limit_s: float) -> None:
        self._clock, self._limit_s = clock, limit_s
        self._process: Process | None = None

    async def redacted(self, content: bytes) -> bytes:
        process = await self._started()
        try:
            async with self._clock.timeout(self._limit_s):
                answer = await _asked(process, content)
        except TimeoutError:
            await self.end()
            raise Unredactable(f"it was not redacted within {self._limit_s:g} s") from None
        except (OSError, asyncio.IncompleteReadError):
            await self.end()
            raise Unredactable("the process that redacted it ended") from None
        except BaseException:  # cancelled: its answer would be taken for the next one's
            await self.end()
            raise
        if not answer:
            raise Unredactable("it holds something that can't be kept")
        return answer

    async def end(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            with suppress(ProcessLookupError):
                process.kill()
            _close(process)
            await process.wait()

    async def _started(self) -> Process:
        if self._process is not None and self._process.returncode is None:
            return self._process
        await self.end()
        try:
            self._process = await _start(self._limit_s)
            async with self._clock.timeout(START_S):
                await _answer(self._process)
        except (OSError, TimeoutError, asyncio.IncompleteReadError) as error:
            log.error("redaction_not_started", error=f"{type(error).__name__}: {error}"[:300])
            await self.end()
            raise Unredactable("the process that redacts could not be started: the gateway's log says why") from None
        except BaseException:
            await self.end()
            raise
        return self._process


async def _start(limit_s: float) -> Process:
    """Its own limit is twice ours: it is for the time when we are not there any more to end it."""
    command = [sys.executable, "-P", "-m", "feedback.privacy.worker", str(int(2 * limit_s) + 1)]
    return await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE, stderr=DEVNULL)


async def _asked(process: Process, content: bytes) -> bytes:
    assert process.stdin is not None
    process.stdin.write(frame(content))
    await process.stdin.drain()
    return await _answer(process)


async def _answer(process: Process) -> bytes:
    assert process.stdout is not None
    head = await process.stdout.readexactly(HEAD_BYTES)
    return await process.stdout.readexactly(int.from_bytes(head))


def _close(process: Process) -> None:
    """Its pipes too: else they are closed when the loop may be gone."""
    transport = getattr(process, "_transport", None)
    if transport is not None:
        transport.close()
