"""Faust on a real Kafka: runs under our topics' names, from where group and facts stand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from feedback.intake.edge import Record
from streams.app import App, NoTables
from streams.kafka.link import link
from streams.kafka.log import KafkaLog
from streams.log import Stored
from streams.runs import RUN
from tests.fakes import until

TOPIC, GROUP = "work", "group"


async def runs_of(
    log: KafkaLog, records: int, starts: Callable[[str, int], int | None] = lambda topic, partition: None
) -> list[tuple[Stored, ...]]:
    """The runs that an agent is given until it has seen so many records."""
    runs: list[tuple[Stored, ...]] = []
    app = App(log.prefix + GROUP, store="memory://", web_enabled=False, topic_disable_leader=True,
              TableManager=NoTables, stream_wait_empty=False, topic_allow_declare=False)  # fmt: skip
    app.transport = app.producer_transport = link(log).transport(app, starts)

    async def agent(stream: Any) -> None:
        async for event in stream.noack().events():
            runs.append(event.value)
            event.ack()

    app.agent(app.topic(log.prefix + TOPIC, key_serializer="raw", value_serializer="raw"))(agent)
    await app.start()
    await until(lambda: sum(map(len, runs)) >= records, "all records")
    await app.consumer.commit()
    await app.stop()
    return runs


def fill(log: KafkaLog, records: int) -> None:
    log.create_topic(TOPIC, 1)
    log.append([Record(TOPIC, b"k", b"%d" % number) for number in range(records)])


@pytest.mark.kafka
async def test_records_come_in_runs_of_bounded_length_in_order_and_under_our_name(log: KafkaLog) -> None:
    fill(log, 2 * RUN + 5)
    runs = await runs_of(log, 2 * RUN + 5)
    assert max(map(len, runs)) <= RUN
    assert [int(stored.value) for run in runs for stored in run] == list(range(2 * RUN + 5))
    assert {(stored.topic, stored.partition) for run in runs for stored in run} == {(TOPIC, 0)}
    assert log.committed(GROUP) == {(TOPIC, 0): 2 * RUN + 5}


@pytest.mark.kafka
@pytest.mark.parametrize(("start", "begins"), [(None, 4), (2, 2), (0, 0), (9, 4)])
async def test_it_begins_where_the_group_stands_or_earlier_where_the_facts_hold_less(
    log: KafkaLog, start: int | None, begins: int
) -> None:
    fill(log, 6)
    log.rewind(GROUP, {(TOPIC, 0): 4})
    runs = await runs_of(log, 6 - begins, lambda topic, partition: {(TOPIC, 0): start}[topic, partition])
    assert [stored.offset for run in runs for stored in run] == list(range(begins, 6))


@pytest.mark.kafka
async def test_where_the_log_no_longer_has_what_the_facts_lack_it_begins_at_the_oldest_record(log: KafkaLog) -> None:
    fill(log, 6)
    log.rewind(GROUP, {(TOPIC, 0): 5})
    with log.administer() as admin:
        admin.delete_records({_place(log): 3})
    runs = await runs_of(log, 3, lambda topic, partition: 1)
    assert [stored.offset for run in runs for stored in run] == [3, 4, 5]


def _place(log: KafkaLog) -> Any:
    from kafka import TopicPartition

    return TopicPartition(log.prefix + TOPIC, 0)
