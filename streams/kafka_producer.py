"""Sending to Kafka from asyncio: idempotent, acknowledged by every replica in step."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from aiokafka import AIOKafkaProducer
from aiokafka.errors import MessageSizeTooLargeError

from feedback.edge import Record
from streams.log import MAX_RECORD_BYTES, RecordRefused

LINGER_MS = 5


class AsyncProducer:
    """A `streams.log.Producer`; connects when it first sends."""

    def __init__(self, servers: str, prefix: str) -> None:
        self._servers, self._prefix = servers, prefix
        self._connecting = asyncio.Lock()
        self._client: AIOKafkaProducer | None = None

    async def send(self, records: Sequence[Record]) -> None:
        """Send records, each to the partition of its key; returns when all are acknowledged. Raises RecordRefused."""
        client = await self._connected()
        try:
            acknowledged = [
                await client.send(self._prefix + record.topic, record.value, record.key, headers=list(record.headers))
                for record in records
            ]
            await asyncio.gather(*acknowledged)
        except MessageSizeTooLargeError:
            size = max(len(record.value) for record in records)
            raise RecordRefused(
                f"a record of {size:,} bytes is more than its topic's max.message.bytes: raise it to {MAX_RECORD_BYTES}"
            ) from None

    async def close(self) -> None:
        """Wait for what was sent before, then disconnect."""
        if self._client is not None:
            await self._client.stop()

    async def _connected(self) -> AIOKafkaProducer:
        async with self._connecting:
            if self._client is None:
                client = AIOKafkaProducer(
                    bootstrap_servers=self._servers,
                    acks="all",
                    enable_idempotence=True,
                    linger_ms=LINGER_MS,
                    max_request_size=MAX_RECORD_BYTES,
                )
                await client.start()
                self._client = client
        return self._client
