"""Faust's aiokafka driver, with runs as events: a fetch gives one event for each partition instead of one per record."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from faust.transport.drivers import aiokafka as driver
from faust.types import TP
from faust.types.transports import ConsumerT
from yarl import URL

from streams.kafka_log import stored
from streams.log import Starts, Stored
from streams.runs import RunConsumer

if TYPE_CHECKING:
    import faust

    from streams.kafka_log import KafkaLog


class Consumer(RunConsumer, driver.Consumer):
    """Reads runs for one consumer group (the app's id)."""

    transport: Transport

    async def _getmany(self, active_partitions: set[TP] | None, timeout: float) -> dict[TP, list[tuple[Stored, ...]]]:
        fetched: Mapping[Any, list[Any]] = await super()._getmany(active_partitions, timeout)
        prefix = self.transport.prefix
        return {
            tp: [tuple(stored(tp.topic.removeprefix(prefix), record) for record in records)]
            for tp, records in fetched.items()
            if records
        }

    async def seek_to_committed(self) -> Mapping[TP, int]:
        committed = await super().seek_to_committed()
        places = await self._kept(committed)
        for tp, offset in places.items():
            if offset != committed[tp]:
                await self._seek(tp, offset)
        return places

    async def on_partitions_assigned(self, assigned: set[TP], generation_id: int = 0) -> None:
        self._runs.clear()  # a run that was under way elsewhere comes again
        await super().on_partitions_assigned(assigned, generation_id)


class Transport(driver.Transport):
    """The cluster of a KafkaLog."""

    Consumer: ClassVar[type[ConsumerT]] = Consumer

    def __init__(self, log: KafkaLog, app: faust.App, starts: Starts) -> None:
        super().__init__([URL(f"kafka://{server}") for server in log.servers.split(",")], app)
        self.prefix, self.starts = log.prefix, starts
