"""An embedded log that moves to Kafka."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import msgspec
import pytest

from feedback.facts.reader import Facts
from feedback.intake.edge import Record
from feedback.topics import REDRIVEN, TOPICS
from streams import dead_letters
from streams.app import GROUPS
from streams.care.audit import audit
from streams.care.migrate import migrate
from streams.kafka.access import KafkaAccess
from streams.kafka.log import KafkaLog
from streams.log import LogError
from streams.sqlite.log import SqliteLog
from tests.fakes import CLOCK
from tests.streams.test_worker import drain, request, signed, turn, worker

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("kafka")]


async def test_a_migration_that_is_broken_off_goes_on_and_loses_and_doubles_nothing(
    tmp_path: Path, kafka_servers: str, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = SqliteLog(tmp_path / "log.db", CLOCK, partitions=3)
    for topic in TOPICS:
        source.create_topic(topic)
    bad = [Record("turns.served", b"c", f"{{no json {n}".encode()) for n in range(3)]
    await drain(tmp_path, source, [signed(turn(n)) for n in range(300)] + bad)
    (first, *_) = dead_letters.read(source)
    source.append([Record(REDRIVEN, first.id.encode(), b"")])
    source.append([signed({**turn(n), "conversation_id": f"c{n}"}) for n in range(300, 2_300)])
    source.append(Record("judge.requests", b"default/c", msgspec.json.encode(request(n))) for n in range(40))
    facts = Facts(tmp_path / "facts")

    target = KafkaLog(KafkaAccess(kafka_servers), CLOCK, partitions=2, prefix=prefix)
    for topic in TOPICS:
        target.create_topic(topic)
    append, calls = target.append, Counter[str]()

    def breaking(records: Iterable[Record]) -> None:
        calls["append"] += 1
        append(records)
        if calls["append"] == 2:
            raise LogError("the cable was pulled")

    monkeypatch.setattr(target, "append", breaking)
    with pytest.raises(LogError):
        migrate(source, target, GROUPS)
    expected = 2_000 + 40 + 2
    assert migrate(source, target, GROUPS) == expected
    assert migrate(source, target, GROUPS) == expected
    assert sum(target.ends().values()) == expected

    async with worker(tmp_path, target) as running:
        await running.drained()
    assert Counter(found.turn_id for found, _ in facts.turns()) == Counter(f"t{n}" for n in range(2_300))
    assert all(finding.good for finding in audit(target, facts))
    assert {letter.value for letter in dead_letters.read(target)} == {r.value for r in bad} - {first.value}
    assert [r.value for p in range(2) for r in target.read("judge.requests", p, 0, 100) if b'q7"' in r.value]
    target.close()
