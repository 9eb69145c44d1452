"""The embedded transport for Faust: `sqlite:///path`, one log file, no server (entry point group `faust.transports`).

One process per consumer group: the group's partitions are all assigned to it at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar

from faust.transport import base
from faust.transport.consumer import Consumer as FaustConsumer
from faust.types import TP
from faust.types.transports import ConsumerT, ProducerT

from feedback.clock import Clock, SystemClock
from streams.log import Starts, Stored
from streams.runs import RUN, NoProducer, RunConsumer
from streams.sqlite.log import SqliteLog

POLL_S = 0.02
"""Pause between two looks at a log that had nothing new."""

DRIVER_VERSION = "sqlite"


class Consumer(RunConsumer, FaustConsumer):
    """Reads runs from the log for one consumer group (the app's id)."""

    consumer_stopped_errors: ClassVar[tuple[type[BaseException], ...]] = ()

    transport: Transport

    def on_init(self) -> None:
        super().on_init()
        self._log, self._clock = self.transport.log, self.transport.clock
        self._assigned: set[TP] = set()
        self._position: dict[TP, int] = {}
        self._turn = 0

    async def create_topic(self, topic: str, partitions: int, replication: int, **_: Any) -> None:
        self._log.create_topic(topic, partitions)

    async def subscribe(self, topics: Iterable[str]) -> None:
        """All partitions of these topics are ours, as soon as Faust is ready for them."""
        names = sorted(topics)
        for name in names:
            self._log.create_topic(name)
        known = self._log.topics()
        self.add_future(self._assign({TP(name, number) for name in names for number in range(known[name])}))

    async def _assign(self, assigned: set[TP]) -> None:
        revoked, self._assigned = self._assigned, assigned
        self.app.on_rebalance_start()
        self.app.consumer_generation_id += 1
        await self.on_partitions_revoked(revoked)
        self._runs.clear()
        await self.on_partitions_assigned(assigned, self.app.consumer_generation_id)

    def assignment(self) -> set[TP]:
        return self._assigned

    async def seek_to_committed(self) -> Mapping[TP, int]:
        committed = self._log.committed(self.app.conf.id)
        self._position = await self._kept({tp: committed.get((tp.topic, tp.partition), 0) for tp in self._assigned})
        self._runs.clear()
        return dict(self._position)

    async def _getmany(self, active_partitions: set[TP] | None, timeout: float) -> dict[TP, list[tuple[Stored, ...]]]:
        deadline = self._clock.monotonic_s() + timeout
        while not self.should_stop:
            for tp in self._next_partitions(active_partitions):
                start = self._position.get(tp)
                if start is None:
                    continue
                run = await asyncio.to_thread(self._log.read, tp.topic, tp.partition, start, RUN)
                if run:
                    self._position[tp] = run[-1].offset + 1
                    return {tp: [tuple(run)]}
            if self._clock.monotonic_s() >= deadline or not self.flow_active:
                break
            await self._clock.sleep(POLL_S)
        return {}

    def _next_partitions(self, active_partitions: set[TP] | None) -> list[TP]:
        """Active partitions, beginning with another one each time, so that none starves."""
        ends = self._log.ends()
        active = self._assigned if active_partitions is None else active_partitions
        waiting = sorted(tp for tp in active if self._position.get(tp, 0) < ends.get((tp.topic, tp.partition), 0))
        if not waiting:
            return []
        self._turn = (self._turn + 1) % len(waiting)
        return waiting[self._turn :] + waiting[: self._turn]

    async def _commit(self, offsets: Mapping[TP, int]) -> bool:
        where = {(tp.topic, tp.partition): offset for tp, offset in offsets.items()}
        await asyncio.to_thread(self._log.commit, self.app.conf.id, where)
        return True

    async def _seek(self, partition: TP, offset: int) -> None:
        self._position[partition] = offset

    async def seek_wait(self, partitions: Mapping[TP, int]) -> None:
        self._position.update(partitions)

    async def seek_to_beginning(self, *partitions: TP) -> None:
        self._position.update(dict.fromkeys(partitions or self._assigned, 0))

    async def position(self, tp: TP) -> int | None:
        return self._position.get(tp)

    async def earliest_offsets(self, *partitions: TP) -> Mapping[TP, int]:
        return dict.fromkeys(partitions, 0)

    async def highwaters(self, *partitions: TP) -> Mapping[TP, int]:
        ends = self._log.ends()
        return {tp: ends.get((tp.topic, tp.partition), 0) for tp in partitions}

    def highwater(self, tp: TP) -> int:
        return self._position.get(tp, 0)

    def topic_partitions(self, topic: str) -> int | None:
        return self._log.topics().get(topic)

    def key_partition(self, topic: str, key: bytes | None, partition: int | None = None) -> int | None:
        return partition

    def _new_topicpartition(self, topic: str, partition: int) -> TP:
        return TP(topic, partition)


class Transport(base.Transport):
    """`sqlite:///absolute/path`."""

    Consumer: ClassVar[type[ConsumerT]] = Consumer
    Producer: ClassVar[type[ProducerT]] = NoProducer
    driver_version = DRIVER_VERSION

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.clock: Clock = SystemClock()
        self.log = SqliteLog(Path(self.url[0].path), self.clock)
        self.starts: Starts = lambda topic, partition: None
