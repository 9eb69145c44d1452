"""The whole topology with the real Faust and real Delta tables, on both logs: the real SQLite and a real Kafka."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from deploy.parts import link_to
from feedback.facts.reader import Facts
from feedback.intake.contract import Rejected
from feedback.intake.edge import SIGNATURE_HEADER, Edge, Record, _on
from feedback.records import Judgement, JudgeRequest, Unjudged, Verdict
from streams import dead_letters
from streams.app import INGEST_GROUP
from streams.log import Log, LogError, Unsigned
from streams.sqlite.log import SqliteLog
from streams.worker import Worker
from tests.fakes import CLOCK, until

KEY = b"k" * 32
NOW_US = 1_790_000_000_000_000


def turn(number: int, **more: Any) -> dict[str, Any]:
    return {
        "event": "turn",
        "event_id": f"e{number}",
        "conversation_id": f"c{number % 5}",
        "occurred_at": 1_767_268_800 + number,
        "turn_id": f"t{number}",
        "user_id": f"ann-{number % 5}",
        "messages": [{"role": "user", "content": "write to ann@example.com"}],
        "reply": "done",
        "policy": "p",
        **more,
    }


def signed(document: dict[str, Any]) -> Record:
    record = Edge(KEY).record_of(document, NOW_US)
    assert not isinstance(record, Rejected)
    return record


def ours(topic: str, value: bytes) -> Record:
    """Bytes that our own hop might have sent on one of its topics."""
    return Record(topic, b"k", value, ((SIGNATURE_HEADER, Edge(KEY)._sign(_on(topic, value))),))


def unsigned(document: dict[str, Any]) -> Record:
    return Record("turns.served", document["conversation_id"].encode(), json.dumps(document).encode())


def worker(
    root: Path,
    log: Log,
    ask: Callable[[JudgeRequest], Awaitable[Judgement]] | None = None,
    edge: Edge | None = None,
    unsigned: Unsigned = MappingProxyType({}),
) -> Worker:
    return Worker(
        link_to(log, CLOCK), root / "facts", edge or Edge(KEY), ask=ask, answered=[], router=None, clock=CLOCK,
        unsigned=unsigned,
    )  # fmt: skip


async def drain(root: Path, log: Log, records: list[Record]) -> None:
    log.append(records)
    async with worker(root, log) as running:
        await running.drained()


async def test_every_event_becomes_a_fact_or_a_dead_letter(tmp_path: Path, log: Log) -> None:
    bad = [Record("turns.served", b"c", b"{no json"), unsigned({**turn(99), "reply": 5})]
    await drain(tmp_path, log, [signed(turn(n)) for n in range(700)] + bad)
    assert {found.turn_id for found, _ in Facts(tmp_path / "facts").turns()} == {f"t{n}" for n in range(700)}
    letters = list(dead_letters.read(log))
    assert sorted((letter.reason, letter.field) for letter in letters) == [("bad_json", ""), ("wrong_type", "reply")]
    assert {letter.value for letter in letters} == {record.value for record in bad}


async def test_what_was_fetched_while_the_flow_stood_still_is_fetched_again(tmp_path: Path, log: Log) -> None:
    """Faust drops it, and seeks to what was committed: of a new partition, nothing."""
    log.append([signed(turn(n)) for n in range(100)])
    starting = worker(tmp_path, log)
    consumer: Any = starting._apps[0].consumer
    fetch, seek, dropped = consumer._getmany, consumer.perform_seek, list[object]()

    async def stopped_once(*arguments: Any, **options: Any) -> Any:
        fetched = await fetch(*arguments, **options)
        if fetched and not dropped:  # a rebalance begins
            dropped.append(fetched)
            consumer.stop_flow()
        return fetched

    async def resumed() -> None:
        await seek()
        if dropped:
            consumer.resume_flow()

    consumer._getmany, consumer.perform_seek = stopped_once, resumed
    async with starting as running:
        await asyncio.wait_for(running.drained(), 60)
    assert dropped
    assert len(list(Facts(tmp_path / "facts").turns())) == 100


async def test_what_nobody_signed_is_redacted_at_ingest(tmp_path: Path, log: Log) -> None:
    await drain(tmp_path, log, [unsigned(turn(1)), signed(turn(2))])
    one, two = sorted((found for found, _ in Facts(tmp_path / "facts").turns()), key=lambda t: t.turn_id)
    assert one.messages == two.messages == [{"role": "user", "content": "write to [email]"}]
    assert one.user_id is not None
    assert "ann" not in one.user_id
    assert b"ann" not in b"".join(path.read_bytes() for path in (tmp_path / "facts").rglob("*.parquet"))


async def test_a_forged_signature_is_not_believed(tmp_path: Path, log: Log) -> None:
    true = signed(turn(1))
    forged = Record(true.topic, true.key, true.value.replace(b"done", b"DONE"), true.headers)
    await drain(tmp_path, log, [forged])
    assert list(Facts(tmp_path / "facts").turns()) == []
    assert len(list(dead_letters.read(log))) == 1


async def test_a_second_start_does_nothing_twice(tmp_path: Path, log: Log) -> None:
    await drain(tmp_path, log, [signed(turn(n)) for n in range(30)])
    await drain(tmp_path, log, [signed(turn(n)) for n in range(30, 40)])
    assert len(list(Facts(tmp_path / "facts").turns())) == 40


async def test_offsets_ahead_of_the_facts_are_rewound(tmp_path: Path, log: Log) -> None:
    await drain(tmp_path, log, [signed(turn(n)) for n in range(30)])
    for path in sorted((tmp_path / "facts").rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    async with worker(tmp_path, log) as running:
        await running.drained()
    assert len(list(Facts(tmp_path / "facts").turns())) == 30


async def test_a_partition_whose_facts_fell_behind_after_the_start_begins_at_the_facts(tmp_path: Path) -> None:
    """Another worker had the partitions, and the group's offsets are ahead of what it left among the facts."""
    log = SqliteLog(tmp_path / "log.db", CLOCK, partitions=2)
    await drain(tmp_path, log, [signed(turn(n)) for n in range(30)])
    log.append([signed(turn(n)) for n in range(30, 60)])
    place = ("turns.served", 0)
    starting = worker(tmp_path, log)  # it has seen that group and facts agree
    log.commit(INGEST_GROUP, {place: log.ends()[place]})
    async with starting as running:
        await until(lambda: len(list(Facts(tmp_path / "facts").turns())) == 60, "the facts of both partitions")
        await running.drained()
    rows = Facts(tmp_path / "facts").columns("turns", ["partition", "offset"]).to_pylist()
    for partition in (0, 1):
        mine = sorted(row["offset"] for row in rows if row["partition"] == partition)
        assert mine == list(range(log.ends()["turns.served", partition]))
        assert len(mine) > 0


async def test_facts_of_another_log_are_refused(tmp_path: Path) -> None:
    log = SqliteLog(tmp_path / "log.db", CLOCK, partitions=2)
    await drain(tmp_path, log, [signed(turn(n)) for n in range(30)])
    log._connection.execute("UPDATE partitions SET next_offset = 0")
    with pytest.raises(LogError, match="Restore the newest"):
        worker(tmp_path, log)


def request(number: int) -> JudgeRequest:
    return JudgeRequest(
        request_id=f"q{number}",
        tenant="default",
        conversation_id="c",
        turn_id=f"t{number}",
        messages=[{"role": "user", "content": "hello"}],
        reply="hi",
    )


async def test_verdicts_and_their_absence_become_facts(tmp_path: Path, log: Log) -> None:
    async def ask(asked: JudgeRequest) -> Judgement:
        common: dict[str, Any] = {
            "verdict_id": asked.request_id, "request_id": asked.request_id, "tenant": asked.tenant, "conversation_id": asked.conversation_id,
            "turn_id": asked.turn_id, "occurred_at_us": NOW_US,
        }  # fmt: skip
        if asked.turn_id == "t1":
            return Unjudged(**common, reason="unparsable")
        return Verdict(**common, model="m", rubric="r", prompt_hash="p", confidence=1, rationale="", score=0.5)

    async with worker(tmp_path, log, ask) as running:
        await running.questions.send([request(0), request(1), request(1)])
        await running.drained()
    found = {judgement.verdict_id: judgement for judgement in Facts(tmp_path / "facts").verdicts()}
    assert isinstance(found["q0"], Verdict)
    assert isinstance(found["q1"], Unjudged)


async def test_a_question_that_was_answered_is_not_asked_again(tmp_path: Path, log: Log) -> None:
    asked: list[str] = []

    async def ask(question: JudgeRequest) -> Judgement:
        asked.append(question.request_id)
        return Unjudged(
            verdict_id="v", request_id=question.request_id, tenant="d", conversation_id="c", turn_id=question.turn_id,
            occurred_at_us=NOW_US, reason="refused",
        )  # fmt: skip

    async with worker(tmp_path, log, ask) as running:
        for _ in range(2):
            await running.questions.send([request(0)])
            await running.drained()
    assert asked == ["q0"]


async def test_redriven_dead_letters_keep_their_identity(tmp_path: Path, log: Log) -> None:
    late = json.dumps(turn(1)).encode()
    letter = dead_letters.dead_letter(Rejected("future", "occurred_at", "too early"), late, NOW_US, file="f", line=3)
    await drain(tmp_path, log, [letter])
    (found,) = dead_letters.read(log)
    assert dead_letters.redrive(log, Edge(KEY), [found], NOW_US) == [(found, None)]
    async with worker(tmp_path, log) as running:
        await running.drained()
    assert [fact.event_id for fact, _ in Facts(tmp_path / "facts").turns()] == ["e1"]
    (again,) = dead_letters.read(log)
    assert again.redriven
    assert not dead_letters.selection(None, None, ())(again)
