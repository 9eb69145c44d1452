"""Group commit: many senders in asyncio, one writer thread, one durable transaction for all that wait."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Generic, TypeVar

from streams.log import LogError

GROUP = 500
"""Most jobs of one transaction."""

T = TypeVar("T")


class GroupCommit(Generic[T]):
    """`write` makes a list of jobs durable in one transaction; what it raises, all of them raise.

    What `do` took before `close` is written or raises; what comes after is refused at once. `then` is called in the loop of
    those whose jobs were written, before they hear of it, and also where they have given up waiting.
    """

    def __init__(self, write: Callable[[list[T]], object], then: Callable[[], object] = lambda: None) -> None:
        self._write, self._then = write, then
        self._taking = threading.Lock()
        """Held while what waits is added to or taken, so that nothing comes behind the end."""
        self._waiting: list[tuple[T, asyncio.Future[None]]] = []
        self._writing = self._closed = False
        self._go = threading.Semaphore(0)
        """Released when there is something to do for a thread that has nothing."""
        self._thread = threading.Thread(target=self._run, name="group-commit", daemon=True)
        self._thread.start()

    async def do(self, job: T) -> None:
        """Returns when the job is durable. Cancelling the caller does not stop it. Raises LogError once this is closed."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        with self._taking:
            if self._closed:
                raise LogError(
                    "the log is closed in this process, which is about to end: what came now was not written"
                )
            self._waiting.append((job, future))
            idle, self._writing = not self._writing, True
        if idle:  # once those who are ready now have added theirs: to wake a thread costs more than a row
            loop.call_soon(self._go.release)
        await future

    async def close(self) -> None:
        """Write what waits, then stop the thread. Again is fine."""
        with self._taking:
            self._closed = True
        self._go.release()
        await asyncio.to_thread(self._thread.join)

    def _run(self) -> None:
        if hasattr(
            os, "SCHED_BATCH"
        ):  # it need not interrupt those who give it work: the more comes together the better
            os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
        while True:
            with self._taking:
                group, self._waiting = self._waiting[:GROUP], self._waiting[GROUP:]
                self._writing, closed = bool(group), self._closed
            if group:
                self._settle(group)
            elif closed:
                return
            else:
                self._go.acquire()

    def _settle(self, group: Sequence[tuple[T, asyncio.Future[None]]]) -> None:
        error: BaseException | None = None
        try:
            self._write([job for job, _ in group])
        except BaseException as raised:  # whatever it is: without this thread everybody would wait for ever
            error = raised
        waiting: dict[asyncio.AbstractEventLoop, list[asyncio.Future[None]]] = {}
        for _, future in group:
            waiting.setdefault(future.get_loop(), []).append(future)
        for loop, futures in waiting.items():  # each is woken once for all that wait in it
            with suppress(RuntimeError):  # it is closed: nobody waits
                loop.call_soon_threadsafe(self._tell, futures, error)

    def _tell(self, futures: Sequence[asyncio.Future[None]], error: BaseException | None) -> None:
        if error is None:
            self._then()
        for future in futures:
            if future.done():  # who waited has given up
                continue
            if error is None:
                future.set_result(None)
            else:
                future.set_exception(error)
