"""A log in memory that delivers at least once, at its worst: runs of any length, again after every rebalance."""

from __future__ import annotations

import asyncio
import zlib
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Sequence
from types import SimpleNamespace
from typing import Any

from faust.types import TP as Place

from feedback.intake.edge import Record
from streams.app import GROUPS
from streams.log import TP, Starts, Stored
from streams.runs import RunConsumer, RunOffsets
from tests.simulator.world import Loop, LoopClock, pause


class Broker:
    """Topics of one number of partitions, and how far each group has come."""

    def __init__(
        self, loop: Loop, partitions: int, check: Callable[[str, TP, int], None], tell: Callable[[str], object]
    ) -> None:
        self.loop, self.partitions, self._tell = loop, partitions, tell
        self.records: dict[TP, list[Stored]] = defaultdict(list)
        self.committed: dict[tuple[str, TP], int] = defaultdict(int)
        self.faults = 0.0
        """How often a send goes wrong, before or after the records were kept."""
        self._check = check

    def append(self, records: Sequence[Record]) -> None:
        for record in records:
            place = (record.topic, zlib.crc32(record.key) % self.partitions)
            kept = self.records[place]
            self._tell(f"{place[0]}/{place[1]} gets {len(kept)}: {record.key.decode()}")
            kept.append(
                Stored(*place, len(kept), LoopClock(self.loop).now_us(), record.key, record.value, record.headers)
            )

    def commit(self, group: str, place: TP, offset: int) -> None:
        self._tell(f"{group} commits {place[0]}/{place[1]} up to {offset}")
        self._check(group, place, offset)
        self.committed[group, place] = max(offset, self.committed[group, place])

    def done(self) -> bool:
        """Whether each group has done everything."""
        return all(
            self.committed[GROUPS[place[0]], place] >= len(kept)
            for place, kept in self.records.items()
            if place[0] in GROUPS
        )


class SimProducer:
    """A `streams.log.Producer`."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    async def send(self, records: Sequence[Record]) -> None:
        chance = self._broker.loop.chance
        await pause(self._broker.loop)
        if chance.random() < self._broker.faults:
            raise OSError("the broker did not answer")
        self._broker.append(records)
        await pause(self._broker.loop)
        if chance.random() < self._broker.faults:
            raise OSError("the answer was lost")

    async def close(self) -> None: ...


class Event:
    """What Faust hands to a hop."""

    def __init__(self, value: tuple[Stored, ...], ack: Callable[[], None]) -> None:
        self.value, self.ack = value, ack


class Stream:
    """What a hop reads: `async for event in stream.noack().events()`."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[Event] = asyncio.Queue(maxsize=2)

    def noack(self) -> Stream:
        return self

    async def events(self) -> AsyncIterator[Event]:
        while True:
            yield await self.queue.get()


class Consumer(RunConsumer):
    """One group's member: where it begins and which offsets it commits is ours; fetching is simulated."""

    def __init__(self, broker: Broker, group: str, streams: dict[str, Stream], starts: Starts) -> None:
        self._broker, self._group, self._streams = broker, group, streams
        self.transport = SimpleNamespace(starts=starts)
        self._runs: dict[Place, RunOffsets] = defaultdict(RunOffsets)
        self._position: dict[Place, int] = {}
        self.seeking: asyncio.Task[None] | None = None

    def assign(self, partitions: Sequence[int]) -> None:
        """Begin anew at what is committed, or earlier where the facts hold less."""
        self._runs.clear()
        self._position = {}
        if self.seeking is not None:
            self.seeking.cancel()
        places = [Place(topic, number) for topic in self._streams for number in partitions]
        self.seeking = self._broker.loop.create_task(self._seek(places))

    async def _seek(self, places: Sequence[Place]) -> None:
        self._position = await self._kept({place: self._broker.committed[self._group, place] for place in places})

    async def run(self) -> None:
        """Fetch and hand on, and commit what was acknowledged."""
        loop = self._broker.loop
        while True:
            for place in list(self._position):
                await pause(loop)
                if place not in self._position:  # it was taken away meanwhile
                    continue
                first = self._position[place]
                run = tuple(self._broker.records[place][first : first + loop.chance.randint(1, 6)])
                if run:
                    self._position[place] = run[-1].offset + 1
                    self._runs[place].delivered(run[-1].offset)
                    await self._streams[place[0]].queue.put(Event(run, self._acknowledging(place, run)))
                if place in self._position and (offset := self._runs[place].committable()) is not None:
                    self._broker.commit(self._group, place, offset)
            await asyncio.sleep(0.05)

    def _acknowledging(self, place: Place, run: tuple[Stored, ...]) -> Callable[[], Any]:
        return lambda: self._runs[place].acknowledged(run[-1].offset)
