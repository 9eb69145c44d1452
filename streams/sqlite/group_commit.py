"""Group commit: many senders in asyncio, one writer thread, one durable transaction for all that wait."""

from __future__ import annotations

import asyncio
import queue
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
        """Held while a job is put into the queue, so that none comes behind the end."""
        self._closed = False
        self._jobs: queue.SimpleQueue[tuple[T, asyncio.Future[None]] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="group-commit", daemon=True)
        self._thread.start()

    async def do(self, job: T) -> None:
        """Returns when the job is durable. Cancelling the caller does not stop it. Raises LogError once this is closed."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        with self._taking:
            if self._closed:
                raise LogError(
                    "the log is closed in this process, which is about to end: what came now was not written"
                )
            self._jobs.put((job, future))
        await future

    async def close(self) -> None:
        """Write what waits, then stop the thread. Again is fine."""
        with self._taking:
            self._closed = True
            self._jobs.put(None)
        await asyncio.to_thread(self._thread.join)

    def _run(self) -> None:
        closing = False
        while not closing:
            group: list[tuple[T, asyncio.Future[None]]] = []
            try:
                while len(group) < GROUP:
                    taken = self._jobs.get(block=not group)
                    if taken is None:
                        closing = True
                        break
                    group.append(taken)
            except queue.Empty:
                pass
            if group:
                self._settle(group)

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
