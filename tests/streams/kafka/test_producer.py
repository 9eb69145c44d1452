"""Sending to Kafka: every record once, in order, to the partition that anybody's producer would choose."""

from __future__ import annotations

import asyncio
import gc
from collections import defaultdict
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.record.default_records import DefaultRecordBatch
from hypothesis import given, settings
from hypothesis import strategies as st
from kafka.cluster import ClusterMetadata
from kafka.partitioner.default import DefaultPartitioner

from deploy.parts import link_to
from feedback.intake.contract import MAX_EVENT_BYTES
from feedback.intake.edge import Record
from streams.kafka.access import KafkaAccess
from streams.kafka.log import KafkaLog
from streams.kafka.producer import AsyncProducer, _hash
from streams.log import RecordRefused, scan
from tests.fakes import CLOCK
from tests.streams.test_worker import signed, turn

NOBODY = KafkaAccess("127.0.0.1:9")


class Cluster(ClusterMetadata):
    """A cluster with one topic of so many partitions, as kafka-python knows it."""

    def __init__(self, partitions: int) -> None:
        super().__init__(bootstrap_servers="127.0.0.1:9")
        self._numbers = set(range(partitions))

    def topics(self, *_: Any) -> set[str]:
        return {"a"}

    def partitions_for_topic(self, topic: str) -> set[int]:
        return self._numbers

    available_partitions_for_topic = partitions_for_topic


@given(key=st.binary(max_size=40), partitions=st.integers(1, 64))
def test_a_keys_partition_is_the_one_that_other_producers_choose(key: bytes, partitions: int) -> None:
    theirs = DefaultPartitioner().partition("a", key, key, b"", b"", Cluster(partitions))
    assert _hash(key) % partitions == theirs


class Client(AIOKafkaProducer):
    """The real client as far as it makes batches; it remembers what it is to send."""

    def __init__(self, partitions: int, batch_bytes: int) -> None:
        super().__init__(bootstrap_servers="127.0.0.1:9", max_batch_size=batch_bytes)
        self._numbers = set(range(partitions))
        self.sent: dict[int, list[tuple[bytes, bytes]]] = defaultdict(list)

    async def partitions_for(self, topic: str) -> set[int]:
        return self._numbers

    async def send_batch(self, batch: Any, topic: str, *, partition: int) -> Any:
        assert topic == "shop.a"
        batch.close()
        assert batch.record_count() > 0, "an empty batch is refused"
        found = DefaultRecordBatch(bytes(batch._build()))
        self.sent[partition] += [(record.key, record.value) for record in found]
        acknowledged = asyncio.get_running_loop().create_future()
        acknowledged.set_result(None)
        return acknowledged


@settings(max_examples=40)
@given(
    sizes=st.lists(st.tuples(st.integers(0, 5), st.integers(0, 400)), max_size=40),
    partitions=st.integers(1, 4),
    batch_bytes=st.integers(50, 2_000),
)
def test_every_record_is_in_one_batch_of_its_partition_and_in_order(
    sizes: list[tuple[int, int]], partitions: int, batch_bytes: int
) -> None:
    records = [Record("a", b"key %d" % key, b"%d " % n + b"x" * size) for n, (key, size) in enumerate(sizes)]

    async def send() -> dict[int, list[tuple[bytes, bytes]]]:
        client, producer = Client(partitions, batch_bytes), AsyncProducer(NOBODY, "shop.")
        producer._client = client
        await producer.send(records)
        await producer.close()
        return client.sent

    expected: dict[int, list[tuple[bytes, bytes]]] = defaultdict(list)
    for record in records:
        expected[_hash(record.key) % partitions].append((record.key, record.value))
    assert asyncio.run(send()) == expected


async def test_a_cluster_that_is_away_is_tried_again_and_nothing_is_left_of_the_first_try() -> None:
    left: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: left.append(context))
    producer = AsyncProducer(NOBODY, "")
    for _ in range(2):
        with pytest.raises(Exception, match="Unable to bootstrap"):
            await producer.send([Record("a", b"k", b"v")])
    await producer.close()
    gc.collect()
    assert [context["message"] for context in left] == []
    assert asyncio.all_tasks() == {asyncio.current_task()}


@pytest.mark.kafka
async def test_a_record_that_its_topic_does_not_take_is_refused_in_a_sentence(log: KafkaLog) -> None:
    producer = link_to(log, CLOCK).producer()
    with pytest.raises(RecordRefused, match=r"more than its topic's max.message.bytes: raise it to 2000000"):
        await producer.send([Record("turns.served", b"k", b"x" * (2 * MAX_EVENT_BYTES + 1))])
    await producer.send([signed(turn(1))])  # it goes on
    await producer.close()


@pytest.mark.kafka
async def test_many_large_records_arrive_once_and_in_the_order_of_their_key(log: KafkaLog) -> None:
    records = [Record("turns.served", b"%d" % (n % 7), b"%d " % n + b"x" * 40_000) for n in range(60)]
    producer = link_to(log, CLOCK).producer()
    await asyncio.gather(producer.send(records[:10]), producer.send([]))
    await producer.send(records[10:])
    await producer.close()
    found = list(scan(log, "turns.served"))
    assert len(found) == 60
    for key in {record.key for record in records}:
        assert [stored.value for stored in found if stored.key == key] == [r.value for r in records if r.key == key]
