"""The log on a real Kafka."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from deploy.parts import link_to
from feedback.intake.contract import MAX_EVENT_BYTES, Rejected
from feedback.intake.edge import Record
from feedback.topics import DEAD_LETTERS
from streams import dead_letters
from streams.kafka.access import KafkaAccess
from streams.kafka.log import KafkaLog
from streams.log import LogError, lag
from tests.fakes import CLOCK

pytestmark = pytest.mark.kafka


@pytest.fixture
def log(kafka_servers: str, prefix: str) -> Iterator[KafkaLog]:
    log = KafkaLog(KafkaAccess(kafka_servers), CLOCK, partitions=2, prefix=prefix)
    yield log
    log.close()


def record(number: int) -> Record:
    return Record("a", f"key {number % 5}".encode(), f"value {number}".encode(), (("edge", b"signed"),))


def test_what_is_appended_is_read_back_in_order_under_the_topics_own_name(log: KafkaLog) -> None:
    log.create_topic("a")
    log.append([record(number) for number in range(50)])
    found = [stored for partition in range(2) for stored in log.read("a", partition, 0, 100)]
    assert sorted(stored.value for stored in found) == sorted(record(number).value for number in range(50))
    assert {(stored.topic, stored.headers) for stored in found} == {("a", (("edge", b"signed"),))}
    for partition in range(2):
        end = log.ends()["a", partition]
        assert [stored.offset for stored in log.read("a", partition, 3, 100)] == list(range(3, end))
        assert log.read("a", partition, end, 100) == []


def test_a_topic_keeps_its_partitions_and_one_made_anew_is_another(log: KafkaLog) -> None:
    log.create_topic("a", 3)
    log.create_topic("a", 5)
    assert log.topics() == {"a": 3}
    first = log.identity("a")
    assert first == log.identity("a")


async def test_the_dead_letter_of_the_biggest_event_fits(log: KafkaLog) -> None:
    log.create_topic(DEAD_LETTERS)
    letter = dead_letters.dead_letter(Rejected("too_large", "", "too big"), b"x" * (MAX_EVENT_BYTES + 1), 0)
    producer = link_to(log, CLOCK).producer()
    await producer.send([letter])
    await producer.close()
    log.append([letter])
    assert [len(found.value) for found in dead_letters.read(log)] == [MAX_EVENT_BYTES + 1] * 2


def test_lag_is_what_a_group_has_not_committed(log: KafkaLog) -> None:
    log.create_topic("a", 1)
    log.append([record(number) for number in range(10)])
    assert lag(log, {"a": "g"}) == {"a": 10}
    log.rewind("g", {("a", 0): 4})
    assert log.committed("g") == {("a", 0): 4}
    assert lag(log, {"a": "g"}) == {"a": 6}


def test_a_cluster_that_is_not_there_is_one_sentence() -> None:
    with pytest.raises(LogError, match=r"nobody answers at 127.0.0.1:9 .*is broker.url right"):
        KafkaLog(KafkaAccess("127.0.0.1:9"), CLOCK)
