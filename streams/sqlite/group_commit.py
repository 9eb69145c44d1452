"""Group commit: many senders in asyncio, one writer thread, one durable transaction for all that wait."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Generic, TypeVar

from streams.log import LogError

GROUP = 500
"""Most jobs of one transaction."""

T = TypeVar("T")


class GroupCommit(Generic[T]):
    """`write` makes a list of jobs durable in one transaction; what it raises, all of them raise.

    What `do` took before `close` is written or raises; what comes after is refused at once.
    """

    def __init__(self, write: Callable[[list[T]], object]) -> None:
        self._write = write
        self._taking = threading.Lock()
        """Held while a job is put into the queue, so that none comes behind the end."""
        self._closed = False
        self._jobs: queue.SimpleQueue[tuple[T, Future[None]] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="group-commit", daemon=True)
        self._thread.start()

    async def do(self, job: T) -> None:
        """Returns when the job is durable. Cancelling the caller does not stop it. Raises LogError once this is closed."""
        future: Future[None] = Future()
        with self._taking:
            if self._closed:
                raise LogError(
                    "the log is closed in this process, which is about to end: what came now was not written"
                )
            self._jobs.put((job, future))
        await asyncio.shield(asyncio.wrap_future(future))  # a cancelled future would end the writer thread

    async def close(self) -> None:
        """Write what waits, then stop the thread. Again is fine."""
        with self._taking:
            self._closed = True
            self._jobs.put(None)
        await asyncio.to_thread(self._thread.join)

    def _run(self) -> None:
        closing = False
        while not closing:
            group: list[tuple[T, Future[None]]] = []
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

    def _settle(self, group: list[tuple[T, Future[None]]]) -> None:
        try:
            self._write([job for job, _ in group])
        except BaseException as error:  # whatever it is: without this thread everybody would wait for ever
            for _, future in group:
                future.set_exception(error)
        else:
            for _, future in group:
                future.set_result(None)
