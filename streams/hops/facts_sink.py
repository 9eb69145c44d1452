"""Into the facts: collects batches of many partitions and commits them together, then acknowledges their runs.

A commit happens every second or every 10,000 rows, in a thread. What waits is bounded: when the facts are slower than the
stream, `put` waits, and with it the consumer.
"""

from __future__ import annotations

import asyncio

from feedback.clock import Clock
from feedback.facts.tables import TABLE_OF_TOPIC, Batch
from feedback.facts.writer import FactsWriter
from streams import metrics
from streams.hops.hop import Ack, Fatal

COMMIT_EVERY_S = 1.0
COMMIT_ROWS = 10_000
WAITING_ROWS = 2 * COMMIT_ROWS


class FactsSink:
    """Give it batches with `put`; `run` commits them until it is cancelled; `drain` waits until nothing waits."""

    def __init__(self, facts: FactsWriter, fatal: Fatal, clock: Clock, commit_every_s: float = COMMIT_EVERY_S) -> None:
        self._facts = facts
        self._fatal, self._clock = fatal, clock
        self._commit_every_s = commit_every_s
        self._waiting: list[tuple[Batch, Ack]] = []
        self._rows = 0
        self._due = asyncio.Event()
        self._room = asyncio.Condition()
        self._committing = asyncio.Lock()

    async def put(self, batch: Batch, ack: Ack) -> None:
        """Take a batch; `ack` is called when it is committed. Waits while too much waits already."""
        async with self._room:
            await self._room.wait_for(lambda: self._rows < WAITING_ROWS)
        self._waiting.append((batch, ack))
        self._rows += len(batch.rows)
        if self._rows >= COMMIT_ROWS:
            self._due.set()

    async def run(self) -> None:
        """Commit when due. A commit that fails for good ends the process: nothing is acknowledged without it."""
        try:
            while True:
                await self._clock.wait(self._due, self._commit_every_s)
                self._due.clear()
                await self.drain()
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            self._fatal(error)

    async def drain(self) -> None:
        """Commit everything that waits now. What this raises for waits on: what comes later must not be applied before it."""
        async with self._committing:
            waiting = list(self._waiting)
            if not waiting:
                return
            with metrics.FACTS_COMMIT_SECONDS.time():
                await asyncio.to_thread(self._facts.commit, [batch for batch, _ in waiting])
            del self._waiting[: len(waiting)]
            self._rows -= sum(len(batch.rows) for batch, _ in waiting)
            metrics.FACTS_COMMITS.inc()
            for batch, ack in waiting:
                metrics.FACTS_ROWS.labels(table=TABLE_OF_TOPIC[batch.topic]).inc(len(batch.rows))
                ack()
            async with self._room:
                self._room.notify_all()
