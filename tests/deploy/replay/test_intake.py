"""The account of a replay: every line of it is found among the facts and the dead letters, whoever else sends meanwhile."""

from __future__ import annotations

import asyncio
import itertools
from pathlib import Path
from typing import Any

import msgspec
import pytest
from deltalake import DeltaTable

from deploy.control.store import open_control
from deploy.errors import Failed
from deploy.parts import open_log
from deploy.replay.intake import Intake, Start, intake
from deploy.replay.run import run
from deploy.settings import Settings
from deploy.state import State, open_state
from feedback.facts.reader import Facts
from feedback.intake.contract import Rejected
from feedback.intake.edge import Edge, Record
from feedback.records import Origin
from feedback.topics import DEAD_LETTERS, TURNS
from streams import dead_letters
from streams.log import Log
from streams.sqlite.log import SqliteLog
from streams.worker import Worker
from tests.deploy.replay.test_run import dump, event, rating, write
from tests.fakes import CLOCK
from tests.streams.test_worker import KEY, drain, worker

EDGE = Edge(KEY)
BAD = Record(TURNS, b"k", b"{no json")


def record(document: dict[str, Any]) -> Record:
    made = EDGE.record_of(document, CLOCK.now_us())
    assert not isinstance(made, Rejected)
    return made


def replayed_beside(state: State, file: Path, others: Any) -> Intake:
    """A replay during which somebody else appends one of `others` whenever it tells how far it is."""
    settings, beside = Settings(), open_log(state, Settings(), CLOCK)
    edge = Edge(state.secret("edge"))

    def progress(*_: object) -> None:
        made = edge.record_of(next(others), CLOCK.now_us())
        assert not isinstance(made, Rejected)
        beside.append([made, BAD])

    return asyncio.run(run([file], state, settings, open_control(state.control), CLOCK, progress))


def test_what_others_send_meanwhile_is_not_counted(tmp_path: Path) -> None:
    state = open_state(tmp_path / "s")
    lines = [*dump(*(event(n) for n in range(700)), *(rating(n) for n in range(30)), event(3)), b"{no json"]
    others = (event(10_000 + n) for n in itertools.count())
    taken = replayed_beside(state, write(tmp_path / "e.jsonl", lines), others)
    assert taken == Intake(732, 700, {"thumbs": 30}, 1, {"bad_json": 1})
    assert len(list(Facts(state.facts).turns())) > 701


def test_the_same_events_sent_by_others_meanwhile_make_ours_duplicates_and_no_more(tmp_path: Path) -> None:
    state = open_state(tmp_path / "s")
    taken = replayed_beside(
        state,
        write(tmp_path / "e.jsonl", dump(*(event(n) for n in range(20)))),
        (event(n) for n in itertools.cycle(range(20))),
    )
    assert taken.turns + taken.duplicates == taken.events == 20
    assert taken.duplicates > 0


def test_a_replay_after_all_that_counts_only_its_own(tmp_path: Path) -> None:
    state = open_state(tmp_path / "s")
    file = write(tmp_path / "e.jsonl", dump(*(event(n) for n in range(20))))
    replayed_beside(state, file, (event(10_000 + n) for n in itertools.count()))
    taken = replayed_beside(state, file, (event(20_000 + n) for n in itertools.count()))
    assert taken == Intake(20, 0, {}, 20, {})


@pytest.fixture
def log(tmp_path: Path) -> Log:
    return SqliteLog(tmp_path / "log.db", CLOCK, partitions=2)


async def test_one_of_ours_that_is_missing_is_a_failure_though_another_sent_the_same(tmp_path: Path, log: Log) -> None:
    start, facts = Start.now(log), Facts(tmp_path / "facts")
    await drain(tmp_path, log, [start.marked(record(event(n))) for n in range(20)])
    await drain(tmp_path, log, [record(event(n)) for n in range(20)])
    assert intake(log, facts, start, 20) == Intake(20, 0, {}, 20, {})
    places = facts.columns("turns", ["offset", "partition"]).to_pylist()
    first = min(places, key=lambda place: (place["offset"], place["partition"]))  # ours came first
    DeltaTable(tmp_path / "facts" / "turns").delete(f"partition = {first['partition']} and offset = {first['offset']}")
    with pytest.raises(Failed, match="20 events were read but 19 are accounted for"):
        intake(log, facts, start, 20)


async def test_one_that_never_came_to_the_log_is_a_failure(tmp_path: Path, log: Log) -> None:
    start = Start.now(log)
    await drain(tmp_path, log, [start.marked(record(event(n))) for n in range(19)] + [record(event(50))])
    with pytest.raises(Failed, match="20 events were read but 19"):
        intake(log, Facts(tmp_path / "facts"), start, 20)


async def test_a_line_that_the_worker_buried_counts_once_however_often_its_letter_came(
    tmp_path: Path, log: Log
) -> None:
    start = Start.now(log)
    await drain(tmp_path, log, [start.marked(BAD), start.marked(record(event(1))), BAD])
    letters = [stored for partition in (0, 1) for stored in log.read(DEAD_LETTERS, partition, 0, 9)]
    assert len(letters) == 2
    log.append([Record(DEAD_LETTERS, stored.key, stored.value) for stored in letters])
    assert intake(log, Facts(tmp_path / "facts"), start, 2) == Intake(2, 1, {}, 0, {"bad_json": 1})


async def test_what_is_waited_for_is_what_was_there(tmp_path: Path, log: Log) -> None:
    """A gateway that goes on sending must not keep a replay waiting for ever."""
    numbers = itertools.count()
    log.append([record(event(next(numbers))) for _ in range(30)])
    running: Worker = worker(tmp_path, log)
    async with running:
        await asyncio.wait_for(running.drained(lambda behind: log.append([record(event(next(numbers)))])), 30)  # type: ignore[func-returns-value]
        assert len(list(Facts(tmp_path / "facts").turns())) >= 30


def test_a_line_that_nobody_foresaw_is_a_dead_letter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = Edge.record

    def chokes(edge: Edge, raw: bytes, now_us: int, origin: Origin) -> Record | Rejected:
        if b'"t7"' in raw:
            raise RecursionError("too deep")
        return made(edge, raw, now_us, origin)

    monkeypatch.setattr(Edge, "record", chokes)
    state = open_state(tmp_path / "s")
    file = write(tmp_path / "e.jsonl", dump(*(event(n) for n in range(10))))
    taken = asyncio.run(run([file], state, Settings(), open_control(state.control), CLOCK, lambda *_: None))
    assert taken == Intake(10, 9, {}, 0, {"poison": 1})
    (letter,) = dead_letters.read(open_log(state, Settings(), CLOCK))
    assert (letter.file, letter.line, msgspec.json.decode(letter.value)["turn_id"]) == ("e.jsonl", 8, "t7")


def test_events_in_which_half_of_a_surrogate_pair_was_replaced_are_counted(tmp_path: Path) -> None:
    state = open_state(tmp_path / "s")
    told = event(3) | {"reply": 'It says "replaced_surrogates": 1'}
    array = msgspec.json.encode([event(1) | {"reply": "HERE"}, event(2), told, rating(1) | {"shoe": "HERE"}])
    file = tmp_path / "e.json"
    file.write_bytes(b"\xef\xbb\xbf" + array.replace(b"HERE", rb"cut \ud83d"))
    taken = asyncio.run(run([file], state, Settings(), open_control(state.control), CLOCK, lambda *_: None))
    assert taken == Intake(4, 3, {"thumbs": 1}, 0, {}, replaced_surrogates=2)
    assert {turn.reply for turn, _ in Facts(state.facts).turns()} >= {"cut \ufffd"}
