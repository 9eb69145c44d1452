"""Sending to Kafka from asyncio: idempotent, acknowledged by every replica in step."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from functools import lru_cache

from aiokafka import AIOKafkaProducer
from aiokafka.errors import MessageSizeTooLargeError
from aiokafka.partitioner import murmur2
from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.structs import RecordMetadata

from feedback.intake.edge import Record
from streams.kafka.access import KafkaAccess
from streams.kafka.log import METADATA_MS
from streams.log import MAX_RECORD_BYTES, RecordRefused

BATCH_BYTES = 256_000


class AsyncProducer:
    """A `streams.log.Producer`; connects when it first sends."""

    def __init__(self, access: KafkaAccess, prefix: str) -> None:
        self._access, self._prefix = access, prefix
        self._connecting = asyncio.Lock()
        self._client: AIOKafkaProducer | None = None

    async def send(self, records: Sequence[Record]) -> None:
        """Send records, each to the partition of its key; returns when all are acknowledged. Raises RecordRefused."""
        client = await self._connected()
        try:
            await asyncio.gather(*[acknowledged async for acknowledged in self._batches(client, records)])
        except MessageSizeTooLargeError:
            size = max(len(record.value) for record in records)
            raise RecordRefused(
                f"a record of {size:,} bytes is more than its topic's max.message.bytes: raise it to {MAX_RECORD_BYTES}"
            ) from None

    async def _batches(
        self, client: AIOKafkaProducer, records: Sequence[Record]
    ) -> AsyncIterator[asyncio.Future[RecordMetadata]]:
        """Hand records over, many of a partition at a time: one by one they cost twice as much."""
        parts: dict[tuple[str, int], list[Record]] = defaultdict(list)
        topics = {record.topic for record in records}
        partitions = {topic: len(await client.partitions_for(self._prefix + topic)) for topic in topics}
        for record in records:
            parts[self._prefix + record.topic, _hash(record.key) % partitions[record.topic]].append(record)
        for (topic, partition), mine in parts.items():
            batch = client.create_batch()
            for record in mine:
                while not _append(batch, record):
                    yield await client.send_batch(batch, topic, partition=partition)
                    batch = client.create_batch()
            yield await client.send_batch(batch, topic, partition=partition)

    async def close(self) -> None:
        """Wait for what was sent before, then disconnect."""
        if self._client is not None:
            await self._client.stop()

    async def _connected(self) -> AIOKafkaProducer:
        async with self._connecting:
            if self._client is None:
                client = AIOKafkaProducer(
                    **self._access.client(),
                    metadata_max_age_ms=METADATA_MS,
                    acks="all",
                    enable_idempotence=True,
                    max_batch_size=BATCH_BYTES,
                    max_request_size=MAX_RECORD_BYTES,
                )
                try:
                    await client.start()
                except BaseException:
                    await client.stop()  # else each try would leave its tasks and connections behind
                    raise
                self._client = client
        return self._client


def _append(batch: BatchBuilder, record: Record) -> bool:
    """Whether there was room; in an empty batch there always is."""
    added = batch.append(key=record.key, value=record.value, timestamp=None, headers=list(record.headers))
    return added is not None


@lru_cache(maxsize=8_192)
def _hash(key: bytes) -> int:
    """Kafka's own, so that a key's partition is the same whoever sends it."""
    return int(murmur2(key)) & 0x7FFFFFFF
