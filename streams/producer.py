"""The way onto the topics, embedded: many senders, one writer thread, one fsync for all that wait (group commit)."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from typing import Protocol

from feedback.edge import Record
from streams.log import Log

GROUP = 2_000
"""Most records of one group commit."""

_Job = tuple[Sequence[Record], "Future[None]"]


class Producer(Protocol):
    """Sends records; when `send` returns they are durable, when it raises they may or may not be."""

    async def send(self, records: Sequence[Record]) -> None: ...


class SqliteProducer:
    """A Producer onto a Log. `close` waits for what was sent before."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._write, name="producer", daemon=True)
        self._thread.start()

    async def send(self, records: Sequence[Record]) -> None:
        """Append records; several calls at once share a transaction."""
        future: Future[None] = Future()
        self._jobs.put((records, future))
        await asyncio.shield(asyncio.wrap_future(future))  # a cancelled future would end the writer thread

    def close(self) -> None:
        """Write what is waiting, then stop the thread."""
        self._jobs.put(None)
        self._thread.join()

    def _write(self) -> None:
        while (job := self._jobs.get()) is not None:
            jobs, stop = self._group(job)
            try:
                self._log.append([record for records, _ in jobs for record in records])
            except Exception as error:
                for _, future in jobs:
                    future.set_exception(error)
            else:
                for _, future in jobs:
                    future.set_result(None)
            if stop:
                return

    def _group(self, first: _Job) -> tuple[list[_Job], bool]:
        jobs, size = [first], len(first[0])
        while size < GROUP:
            try:
                job = self._jobs.get_nowait()
            except queue.Empty:
                break
            if job is None:
                return jobs, True
            jobs.append(job)
            size += len(job[0])
        return jobs, False
