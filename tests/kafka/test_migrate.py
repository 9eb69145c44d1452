"""An embedded log that moves to Kafka."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import msgspec
import pytest

from deploy.state import open_state
from feedback.facts.reader import Facts
from feedback.intake.contract import Rejected
from feedback.intake.edge import Edge, Record
from feedback.topics import REDRIVEN, TOPICS
from streams import dead_letters
from streams.app import GROUPS
from streams.care.audit import audit
from streams.care.migrate import migrate
from streams.kafka.access import KafkaAccess
from streams.kafka.log import KafkaLog
from streams.log import LogError
from streams.sqlite.log import SqliteLog
from tests.deploy.commands import answer, trimtab
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


def test_the_command_moves_what_waits_and_keeps_the_old_log(tmp_path: Path, kafka_servers: str, prefix: str) -> None:
    state = open_state(tmp_path / ".trimtab")
    log, edge = SqliteLog(state.log, CLOCK), Edge(state.secret("edge"))
    made = [edge.record(json.dumps(turn(n)).encode(), 1_790_000_000_000_000) for n in range(50)]
    log.append([record for record in made if not isinstance(record, Rejected)])
    log.close()
    variables = {"TRIMTAB_BROKER__PREFIX": prefix, "TRIMTAB_BROKER__PARTITIONS": "2"}
    with state.lock("worker"):
        refused = trimtab("migrate", "--to", f"kafka://{kafka_servers}", cwd=tmp_path, **variables)
    assert refused.returncode == 3
    assert "the worker of" in refused.stderr
    assert answer("migrate", "--to", f"kafka://{kafka_servers}", cwd=tmp_path, **variables)["moved"] == 50
    assert not state.log.exists()
    assert state.log.with_name("log.db.moved").exists()
    again = trimtab("migrate", "--to", f"kafka://{kafka_servers}", cwd=tmp_path, **variables)
    assert (again.returncode, "no embedded log to move" in again.stderr) == (3, True)
    found = answer("topics", "lag", cwd=tmp_path, TRIMTAB_BROKER__URL=f"kafka://{kafka_servers}", **variables)
    assert found["lag"] == 50
    wrong = trimtab("migrate", "--to", "sqlite://", cwd=tmp_path)
    assert wrong.returncode == 3
