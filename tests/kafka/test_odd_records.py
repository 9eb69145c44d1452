"""What other tools put on our topics, and what operators do to them."""

from __future__ import annotations

from pathlib import Path

import pytest
from kafka import KafkaProducer

from feedback.facts.reader import Facts
from feedback.intake.contract import MAX_EVENT_BYTES
from feedback.topics import TOPICS
from streams import dead_letters
from streams.app import INGEST_GROUP
from streams.care.audit import audit
from streams.kafka.access import KafkaAccess
from streams.kafka.log import KafkaLog
from tests.fakes import CLOCK, until
from tests.streams.test_worker import drain, signed, turn, unsigned, worker

pytestmark = pytest.mark.kafka


async def test_records_of_other_tools_are_events_or_dead_letters_and_stop_nothing(
    tmp_path: Path, log: KafkaLog, kafka_servers: str, prefix: str
) -> None:
    event = unsigned(turn(1)).value
    other = KafkaProducer(bootstrap_servers=kafka_servers)
    topic = f"{prefix}turns.served"
    other.send(topic, value=event)  # without a key
    other.send(topic, key=b"c1", value=None)  # a tombstone
    headers = [("traceparent", b"00-abc"), ("empty", b""), ("trimtab-edge", b"forged")]
    other.send(topic, key=b"c2", value=unsigned(turn(2)).value, headers=headers)
    other.send(topic, key=b"\xff\xfe", value=unsigned(turn(3)).value, timestamp_ms=1)
    other.send(topic, key=b"c4", value=b"\x00" * 40)
    other.flush()
    other.close()
    await drain(tmp_path, log, [signed(turn(n)) for n in range(10, 15)])
    facts = Facts(tmp_path / "facts")
    assert {found.turn_id for found, _ in facts.turns()} == {"t1", "t2", "t3", *(f"t{n}" for n in range(10, 15))}
    assert sorted((letter.reason, letter.value) for letter in dead_letters.read(log)) == [
        ("bad_json", b""),
        ("bad_json", b"\x00" * 40),
    ]
    assert all(finding.good for finding in audit(log, facts))


async def test_an_event_larger_than_allowed_is_a_dead_letter_with_its_bytes(tmp_path: Path, log: KafkaLog) -> None:
    large = unsigned({**turn(1), "reply": "x" * MAX_EVENT_BYTES})
    await drain(tmp_path, log, [large, signed(turn(2))])
    (letter,) = dead_letters.read(log)
    assert (letter.reason, letter.value) == ("too_large", large.value)


async def test_a_topic_that_is_deleted_and_made_anew_is_another_log(
    tmp_path: Path, log: KafkaLog, kafka_servers: str, prefix: str
) -> None:
    await drain(tmp_path, log, [signed(turn(n)) for n in range(30)])
    with log.administer() as admin:
        admin.delete_topics([f"{prefix}turns.served"])
    await until(
        lambda: not any(topic == "turns.served" for topic, _ in log.committed(INGEST_GROUP)),
        "the group's offsets gone with the topic",  # the coordinator does that later: they would vanish under the new one
    )
    anew = KafkaLog(KafkaAccess(kafka_servers), CLOCK, partitions=2, prefix=prefix)
    await until(lambda: anew.create_topic("turns.served"), "the topic gone and made again")
    for topic in TOPICS:
        anew.create_topic(topic)
    await drain(tmp_path, anew, [signed(turn(n)) for n in range(30, 40)])
    facts = Facts(tmp_path / "facts")
    assert sorted(int(found.turn_id[1:]) for found, _ in facts.turns()) == list(range(40))
    assert all(finding.good for finding in audit(anew, facts))
    async with worker(tmp_path, anew) as again:
        await again.drained()
    assert len(list(facts.turns())) == 40
    anew.close()
