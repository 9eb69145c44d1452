"""The worker: both apps on one log, started and stopped together; it says when everything is done.

It fails as one: when a hop or a commit can't go on, `failed` holds the reason and nothing more is acknowledged, so that
the next start takes up exactly what was not finished.
"""

from __future__ import annotations

import asyncio
import gc
import sys
from collections.abc import Callable
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any

import structlog

from feedback.clock import Clock
from feedback.facts.reader import Facts
from feedback.facts.writer import FactsWriter
from feedback.intake.edge import Edge
from feedback.topics import FACTS, JUDGE_REQUESTS, TURNS, VERDICTS
from streams import app as topology
from streams.hops.facts_sink import FactsSink
from streams.hops.ingest import Ingest
from streams.hops.judge import Ask, JudgeHop
from streams.hops.questions import Questions
from streams.hops.waiting_turns import WaitingTurns
from streams.housekeeping import TICK_S, Housekeeping
from streams.link import Link
from streams.log import TP, Log, LogError, Standing, Unsigned, lag, lag_of, standings

LOOK_S, LOOK_RECORDS = 0.05, 1_000
"""How often `drained` looks: less often while much is left, for a look costs Kafka requests."""
SWITCH_S = 0.02
log = structlog.get_logger()


def tune_interpreter() -> None:
    """For a process that is a worker: it makes many small values that live for seconds, and Python's garbage collector
    looks at them again and again by default (a third of the time). Its one busy thread is interrupted two hundred times
    a second for those that fetch and commit, which are in no such hurry (a twentieth)."""
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)
    sys.setswitchinterval(SWITCH_S)


class Worker:
    """`async with Worker(…)` runs the hops. `ask` None: there is no judge. `router` None: nothing is routed live.
    `room`: how many questions may wait for the judge before only a sample is asked."""

    def __init__(
        self,
        link: Link,
        facts: Path,
        edge: Edge,
        *,
        ask: Ask | None,
        answered: list[str],
        clock: Clock,
        router: WaitingTurns | None,
        room: int | None = None,
        unsigned: Unsigned = MappingProxyType({}),
    ) -> None:
        events = link.log
        self._log, self._clock = events, clock
        self._router, self._facts = router, facts
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.producer = link.producer()
        writer = FactsWriter(facts, events.identity, clock)
        _agree(events, writer)
        self._sink = FactsSink(writer, self._fail, clock)
        self.questions = Questions(self.producer, edge, clock, room)
        observe = router.observe if router else None
        ingest = Ingest(edge, self._sink, self.producer, self.questions, observe, clock, unsigned)
        self._apps = [topology.build_ingest(link, ingest, self._fail, writer.applied, clock)]
        if router is not None:
            self._apps[0].on_partitions_assigned.connect(self._assigned)  # type: ignore[arg-type]
        self._groups = dict.fromkeys(FACTS, topology.INGEST_GROUP)
        if ask is not None:
            hop = JudgeHop(ask, self.producer, edge, answered, router is not None, clock, unsigned)
            self._apps.append(topology.build_judge(link, hop, self._fail, clock))
            self._groups[JUDGE_REQUESTS] = topology.JUDGE_GROUP
        self._housekeeping = Housekeeping(events, self._groups, self._apps, self.questions, router, Facts(facts), clock)
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Worker:
        self._tasks.append(asyncio.create_task(self._sink.run()))
        self._tasks.append(asyncio.create_task(self._housekeeping.run(self._fail)))
        for app in self._apps:
            await app.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None and not self.failed.done():  # after a fault nothing more is committed: the next start does it
            await self._sink.drain()
        for app in self._apps:
            await app.stop()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.producer.close()
        if not self.failed.done():
            self.failed.cancel()

    async def lag(self) -> dict[str, int]:
        """Records that are not done yet, by topic."""
        return await asyncio.to_thread(lag, self._log, self._groups)

    async def drained(self, progress: Callable[[dict[str, int]], object] = lambda behind: None) -> None:
        """Wait until what is on the log now is done, and what comes of it; others may go on sending meanwhile. `progress` is
        told how many records are left of each topic. Raises what made the worker fail."""
        ends: dict[TP, int] = {}
        for topics in (FACTS, (JUDGE_REQUESTS,), (VERDICTS,)):  # each after what leads to it
            now = await asyncio.to_thread(self._log.ends)
            ends |= {place: end for place, end in now.items() if place[0] in topics and place[0] in self._groups}
            await self._reached(ends, progress)

    async def _reached(self, ends: dict[TP, int], progress: Callable[[dict[str, int]], object]) -> None:
        before: dict[str, int] | None = None
        while True:
            if self.failed.done():
                self.failed.result()
            places = await asyncio.to_thread(standings, self._log, self._groups)
            left = {place: Standing(min(places[place].done, end), end) for place, end in ends.items()}
            behind = lag_of(left, self._groups)
            progress(behind)
            if not any(behind.values()):
                return
            if behind == before:  # nothing moves: what waits for its moment is the last of it
                await self._sink.drain()
                for app in self._apps:
                    await app.consumer.commit()
            before = behind
            await self._clock.sleep(min(LOOK_S * (1 + sum(behind.values()) / LOOK_RECORDS), TICK_S))

    async def _assigned(self, app: Any, assigned: set[Any], **_: Any) -> None:
        """The partitions that are ours now: their turns' timers are too."""
        assert self._router is not None
        partitions = {tp.partition for tp in assigned if tp.topic == self._log.prefix + TURNS}
        now_us = self._clock.now_us()
        rebuilt = await asyncio.to_thread(self._router.rebuilt, partitions, Facts(self._facts), now_us)
        self._router.own(partitions, rebuilt)

    def _fail(self, error: BaseException) -> None:
        if not self.failed.done():
            self.failed.set_exception(error)


def _agree(events: Log, writer: FactsWriter) -> None:
    """Begin where the facts end: they, not the log's offsets, say what was kept (a crash of the machine may lose files)."""
    done = events.committed(topology.INGEST_GROUP)
    behind = {}
    for (topic, partition), end in events.ends().items():
        if topic not in FACTS:
            continue
        applied = writer.applied(topic, partition)
        if applied > end:
            raise LogError(
                f"the facts have applied {topic}/{partition} up to offset {applied}, but this log ends at {end}: "
                f"the log was replaced by an older copy. Restore the newest log.db, or move it away to start a new one"
            )
        if applied < done.get((topic, partition), 0):
            behind[topic, partition] = applied
    if behind:
        log.warning("facts_behind_log", partitions=len(behind))
        events.rewind(topology.INGEST_GROUP, behind)
