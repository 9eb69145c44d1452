"""From one log to another: what is not done moves, once, however often the move is broken off."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feedback.facts.reader import Facts
from feedback.intake.contract import Rejected
from feedback.intake.edge import Record
from feedback.topics import REDRIVEN, TOPICS, TURNS
from streams import dead_letters
from streams.app import GROUPS, INGEST_GROUP
from streams.care.audit import audit
from streams.care.migrate import migrate, waiting
from streams.kafka.access import KafkaAccess
from streams.kafka.log import KafkaLog
from streams.log import LogError, scan
from streams.sqlite.log import SqliteLog
from tests.fakes import CLOCK
from tests.streams.test_worker import drain, request, signed, turn, worker


@pytest.mark.kafka
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


class Breaking(SqliteLog):
    """A log whose cable is pulled after so many records."""

    left: int | None = None

    def append(self, records: Iterable[Record]) -> list[int]:
        found = list(records)
        if self.left is not None:
            self.left -= len(found)
            if self.left < 0:
                super().append(found[: self.left])
                raise LogError("the cable was pulled")
        return super().append(found)


@settings(max_examples=12)
@given(
    records=st.integers(0, 30), done=st.lists(st.integers(0, 9), min_size=2, max_size=2),
    breaks=st.lists(st.integers(0, 12), max_size=4), run=st.integers(1, 7),
)  # fmt: skip
def test_what_was_not_done_is_there_once_wherever_the_move_was_broken_off(
    tmp_path_factory: pytest.TempPathFactory, records: int, done: list[int], breaks: list[int], run: int
) -> None:
    root = tmp_path_factory.mktemp("logs")
    source, target = SqliteLog(root / "a.db", CLOCK, partitions=2), Breaking(root / "b.db", CLOCK, partitions=3)
    source.create_topic(TURNS)
    source.append(Record(TURNS, b"%d" % n, b"%d" % n, (("edge", b"signed"),)) for n in range(records))
    source.commit(INGEST_GROUP, {(TURNS, n): min(at, source.ends()[TURNS, n]) for n, at in enumerate(done)})
    waits = {stored.value for stored in scan(source, TURNS) if stored.offset >= done[stored.partition]}
    assert waiting(source, GROUPS) == len(waits)
    told: list[int] = []
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("streams.care.migrate.RUN", run)
        for target.left in (*breaks, None):
            with suppress(LogError):
                assert migrate(source, target, GROUPS, told.append) == len(waits)
    moved = list(scan(target, TURNS))
    assert sorted(stored.value for stored in moved) == sorted(waits)
    assert all(stored.headers[0] == ("edge", b"signed") and stored.key == stored.value for stored in moved)
    assert told == sorted(told)


def test_letters_move_while_they_wait_for_a_person_and_stay_once_they_were_sent_again(tmp_path: Path) -> None:
    source, target = SqliteLog(tmp_path / "a.db", CLOCK), SqliteLog(tmp_path / "b.db", CLOCK)
    reason = Rejected("bad_json", "", "no valid JSON")
    source.append(dead_letters.dead_letter(reason, b"%d" % n, 0, topic=TURNS, partition=0, offset=n) for n in range(3))
    (sent_again, *others) = dead_letters.read(source)
    source.append([Record(REDRIVEN, sent_again.id.encode(), b"")])
    assert waiting(source, GROUPS) == migrate(source, target, GROUPS) == 2
    assert {letter.value for letter in dead_letters.read(target)} == {letter.value for letter in others}
