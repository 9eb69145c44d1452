"""One fetched run of records of one partition as one Faust event: what both transports' consumers share.

`event.value` is a tuple of `Stored`; acknowledging the event acknowledges the run. Offsets are committed in order, as far
as runs are acknowledged without a gap.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from collections.abc import Mapping
from typing import Any

from faust.transport.base import Producer
from faust.types import TP, ConsumerMessage

from streams.log import Stored

RUN = 1_000
"""Most records in one run, that is in one Faust event."""


class RunOffsets:
    """Offsets of the runs of one partition, in the order of delivery: committable are those before the first gap."""

    def __init__(self) -> None:
        self._delivered: deque[int] = deque()
        self._acknowledged: set[int] = set()

    def delivered(self, last_offset: int) -> None:
        """A run that ends at `last_offset` was handed on."""
        self._delivered.append(last_offset)

    def acknowledged(self, last_offset: int) -> None:
        """The run that ends at `last_offset` is done."""
        self._acknowledged.add(last_offset)

    def committable(self) -> int | None:
        """The offset that may be committed now (last done + 1), None where nothing new is done."""
        done = None
        while self._delivered and self._delivered[0] in self._acknowledged:
            done = self._delivered.popleft()
            self._acknowledged.discard(done)
        return None if done is None else done + 1


class NoProducer(Producer):
    """Faust wants one; the hops send through the log's own, which waits until a record is durable."""

    async def create_topic(self, topic: str, partitions: int, replication: int, **_: Any) -> None:
        raise NotImplementedError(f"{topic}: topics are made before (`deploy.parts.open_log`)")

    async def flush(self) -> None:
        await self.buffer.flush()


class RunConsumer:
    """Mixed into a Faust consumer whose `_getmany` gives runs: makes messages of them and keeps their offsets."""

    app: Any
    transport: Any
    _acked: Any
    _acked_index: Any

    async def _kept(self, committed: Mapping[TP, int]) -> dict[TP, int]:
        """Where to begin: at the group's offsets (0 where it never committed), or earlier where the facts hold less."""
        places = {}
        for tp, offset in committed.items():
            start = await asyncio.to_thread(self.transport.starts, tp.topic, tp.partition)
            places[tp] = offset or 0 if start is None else min(offset or 0, start)
        return places

    def on_init(self) -> None:
        super().on_init()  # type: ignore[misc]
        self._runs: dict[TP, RunOffsets] = defaultdict(RunOffsets)

    def _to_message(self, tp: TP, record: tuple[Stored, ...]) -> ConsumerMessage:
        last = record[-1]
        self._runs[tp].delivered(last.offset)
        return ConsumerMessage(
            tp.topic,
            tp.partition,
            last.offset,
            last.at_us / 1e6,
            0,
            [],
            b"",
            record,  # type: ignore[arg-type]  # a run, where Faust expects bytes; `raw` hands it on
            None,
            0,
            0,
            tp,
            generation_id=self.app.consumer_generation_id,
        )

    def _new_offset(self, tp: TP) -> int | None:
        acked = self._acked[tp]
        runs = self._runs[tp]
        for offset in acked:
            runs.acknowledged(offset)
        self._acked_index[tp].difference_update(acked)
        acked.clear()
        return runs.committable()

    async def _add_gap(self, tp: TP, offset_from: int, offset_to: int) -> None:
        """A run carries only its last offset: what Faust takes for gaps are the records inside it."""
