"""Faust's aiokafka driver, with runs as events: a fetch gives one event for each partition instead of one per record."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import aiokafka
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from faust.transport.drivers import aiokafka as driver
from faust.types import TP
from faust.types.transports import ConsumerT, ProducerT
from yarl import URL

from streams.kafka import log
from streams.kafka.log import KafkaLog, stored
from streams.log import Starts, Stored
from streams.runs import RUN, NoProducer, RunConsumer

if TYPE_CHECKING:
    import faust


MANY = 8
"""Most runs of one fetch."""
FETCH_WAIT_MS = 100
SESSION_MS = 6_000
REBALANCE_MS = 20_000


class ConsumerThread(driver.AIOKafkaConsumerThread):
    """The driver's thread, with a client as we want it."""

    def _create_worker_consumer(self, transport: Any) -> aiokafka.AIOKafkaConsumer:
        conf = self.app.conf
        return aiokafka.AIOKafkaConsumer(
            **transport.access.client(),
            client_id=conf.broker_client_id,
            group_id=conf.id,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            # the partitions of one number of all topics go to one worker: a rating has to meet its turn's timer
            partition_assignment_strategy=[RangePartitionAssignor],
            metadata_max_age_ms=log.METADATA_MS,
            max_poll_records=RUN * MANY,
            fetch_max_wait_ms=FETCH_WAIT_MS,
            session_timeout_ms=SESSION_MS,  # a killed worker's partitions come back to the others then
            heartbeat_interval_ms=SESSION_MS // 3,
            rebalance_timeout_ms=REBALANCE_MS,
        )


class Consumer(RunConsumer, driver.Consumer):
    """Reads runs for one consumer group (the app's id)."""

    transport: Transport

    def _new_consumer_thread(self) -> ConsumerThread:
        return ConsumerThread(self, loop=self.loop, beacon=self.beacon)

    async def _getmany(self, active_partitions: set[TP] | None, timeout: float) -> dict[TP, list[tuple[Stored, ...]]]:
        fetched: Mapping[Any, list[Any]] = await super()._getmany(active_partitions, timeout)
        prefix = self.transport.prefix
        return {
            tp: [
                tuple(stored(tp.topic.removeprefix(prefix), record) for record in records[start : start + RUN])
                for start in range(0, len(records), RUN)
            ]
            for tp, records in fetched.items()
        }

    async def seek_to_committed(self) -> Mapping[TP, int]:
        committed = await super().seek_to_committed()  # does nothing where that is 0, or nothing at all
        places = await self._kept(committed)
        for tp, offset in places.items():
            if offset != committed[tp] or not offset:
                await self._seek(tp, offset)  # what the log no longer has, it leaves out: `auto_offset_reset`
        return places

    async def on_partitions_assigned(self, assigned: set[TP], generation_id: int = 0) -> None:
        self._runs.clear()  # a run that was under way elsewhere comes again
        await super().on_partitions_assigned(assigned, generation_id)


class Transport(driver.Transport):
    """The cluster of a KafkaLog."""

    Consumer: ClassVar[type[ConsumerT]] = Consumer
    Producer: ClassVar[type[ProducerT]] = NoProducer

    def __init__(self, log: KafkaLog, app: faust.App, starts: Starts) -> None:
        super().__init__([URL(f"kafka://{server}") for server in log.access.servers.split(",")], app)
        self.access, self.prefix, self.starts = log.access, log.prefix, starts
