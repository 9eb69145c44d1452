from __future__ import annotations

import asyncio
import math
import sqlite3
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import REGISTRY

from deploy.errors import Failed
from deploy.gateway.event_log import TIMEOUT_S, EventLog
from deploy.gateway.redaction import Redaction
from deploy.gateway.room import AGAIN_S, SCRATCH
from deploy.gateway.spool import HOLD_S, Spool, SpoolFull
from feedback.durable import RESERVE_BYTES
from feedback.intake.edge import Edge, Record
from feedback.records import Turn
from streams.log import LogError, Producer, RecordRefused
from tests.fakes import CLOCK, ManualClock, MemoryProducer, until

ROOM = 1_000_000


def record(name: str, size: int = 0) -> Record:
    return Record("turns.served", name.encode(), b"x" * size, (("header", b"\x00"),))


@asynccontextmanager
async def sending(spool: Spool, producer: Producer) -> AsyncIterator[None]:
    task = asyncio.create_task(spool.run(lambda: producer))
    yield
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


class Target(MemoryProducer):
    """Refuses records of this key."""

    refused = b""

    async def send(self, records: Sequence[Record], releases: str | None = None) -> None:
        if self.refused in [record.key for record in records]:
            raise RecordRefused("too large")
        await super().send(records)

    async def close(self) -> None: ...


async def test_records_are_sent_in_order_and_then_gone(tmp_path: Path) -> None:
    spool, target = Spool(tmp_path / "spool.db", ROOM, CLOCK), Target()
    await spool.send([record("a"), record("b")])
    async with sending(spool, target):
        await spool.send([record("c")])
        assert await spool.drained(60)
    assert [sent.key for sent in target.records] == [b"a", b"b", b"c"]
    assert target.records[0] == record("a")
    assert (spool.records, spool.size) == (0, 0)
    await spool.close()


async def test_what_was_not_sent_before_a_crash_is_sent_by_the_next_process(tmp_path: Path) -> None:
    await Spool(tmp_path / "spool.db", ROOM, CLOCK).send([record("a")])
    spool, target = Spool(tmp_path / "spool.db", ROOM, CLOCK), Target()
    async with sending(spool, target):
        assert await spool.drained(60)
    assert [sent.key for sent in target.records] == [b"a"]


async def test_a_turn_under_way_is_sent_only_if_the_process_dies(tmp_path: Path) -> None:
    spool, target = Spool(tmp_path / "spool.db", ROOM, CLOCK), Target()
    await spool.hold("t1", record("t1 aborted"))
    await spool.hold("t2", record("t2 aborted"))
    async with sending(spool, target):
        await spool.send([record("t1 complete")], releases="t1")
        assert await spool.drained(60)
    assert [sent.key for sent in target.records] == [b"t1 complete"]
    after = Spool(tmp_path / "spool.db", ROOM, CLOCK)
    assert after.aborted == 1
    async with sending(after, target):
        assert await after.drained(60)
    assert [sent.key for sent in target.records] == [b"t1 complete", b"t2 aborted"]


@contextmanager
def blocked(path: Path) -> Iterator[None]:
    """Nobody can write to the file."""
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    yield
    other.execute("ROLLBACK")
    other.close()


async def given_up(spool: Spool, clock: ManualClock, path: Path, how: str) -> None:
    """A turn's hold that is written only after whoever waited for it gave up."""
    with blocked(path):
        holding = asyncio.create_task(spool.hold("t", record("t aborted")))
        await asyncio.sleep(0)
        if how == "cancelled":
            holding.cancel()
        else:
            await clock.advance(HOLD_S)
        with pytest.raises(asyncio.CancelledError if how == "cancelled" else TimeoutError):
            await holding
    await spool.send([record("after")])


@pytest.mark.parametrize("how", ["cancelled", "too late"])
async def test_of_a_turn_that_was_given_up_nothing_stays_held(tmp_path: Path, how: str) -> None:
    path, clock = tmp_path / "spool.db", ManualClock()
    spool = Spool(path, ROOM, clock)
    await given_up(spool, clock, path, how)
    await until(lambda: spool.records == 1)
    await spool.close()
    after, target = Spool(path, ROOM, CLOCK), Target()
    assert after.aborted == 0
    async with sending(after, target):
        assert await after.drained(5)
    assert [sent.key for sent in target.records] == [b"after"]
    assert (after.records, after.size) == (0, 0)


async def test_a_turn_that_went_on_although_it_could_not_be_held_is_complete(tmp_path: Path) -> None:
    path, clock, target = tmp_path / "spool.db", ManualClock(), Target()
    spool = Spool(path, ROOM, clock)
    await given_up(spool, clock, path, "too late")
    await spool.send([record("t complete")], releases="t")
    async with sending(spool, target):
        await until(lambda: len(target.records) == 2 and spool.records == 0)
    assert [sent.key for sent in target.records] == [b"after", b"t complete"]
    await spool.close()
    assert Spool(path, ROOM, CLOCK).aborted == 0


async def test_what_was_given_up_is_let_go_of_when_the_spool_closes_at_once(tmp_path: Path) -> None:
    path, clock = tmp_path / "spool.db", ManualClock()
    spool = Spool(path, ROOM, clock)
    with blocked(path):
        holding = asyncio.create_task(spool.hold("t", record("t aborted")))
        await asyncio.sleep(0)
        await clock.advance(HOLD_S)
        with pytest.raises(TimeoutError, match="did not take"):
            await holding
        closing = asyncio.create_task(spool.close())
    await closing
    assert Spool(path, ROOM, CLOCK).aborted == 0


async def test_what_was_given_up_is_let_go_of_once_the_disk_can_be_written_again(tmp_path: Path) -> None:
    path, clock = tmp_path / "spool.db", ManualClock()
    spool, other = Spool(path, ROOM, clock), sqlite3.connect(path)
    await spool.hold("u", record("u aborted"))
    with other:
        other.execute("CREATE TRIGGER broken BEFORE DELETE ON records BEGIN SELECT RAISE(ABORT, 'no luck'); END")
    spool._give_up("u")
    await until(lambda: clock.waiting == 1, "the first try")
    with other:
        other.execute("DROP TRIGGER broken")
    await clock.advance(60)
    await until(lambda: spool.records == 0, "the second")
    await spool.close()


async def test_a_turn_that_the_log_could_not_begin_is_not_held(tmp_path: Path) -> None:
    path, clock = tmp_path / "spool.db", ManualClock()
    spool = Spool(path, ROOM, clock)
    events = EventLog(spool, clock, Redaction(Edge(b"key"), clock))
    turn = Turn(
        tenant="default",
        event_id="e",
        turn_id="t",
        conversation_id="c",
        policy="p",
        occurred_at_us=1,
        messages=[],
        reply="",
    )
    with blocked(path):
        begun = asyncio.create_task(events.begin_turn(turn, hold=True))
        await until(lambda: len(clock._timeouts) == 2, "the spool to be asked")
        await clock.advance(HOLD_S)
        assert not (await begun).held
    await spool.send([record("after")])
    assert spool.records == 1
    await spool.close()


async def test_a_closed_spool_refuses(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool.db", ROOM, CLOCK)
    await spool.close()
    for refused in (spool.send([record("a")]), spool.hold("t", record("t"))):
        with pytest.raises(LogError, match="closed"):
            await refused


def test_the_spool_gives_a_hold_up_before_the_event_log_does() -> None:
    """Else a turn would be refused, and what is held of it nobody would release."""
    assert HOLD_S < TIMEOUT_S


async def test_a_full_spool_takes_nothing_new_but_what_it_held(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool.db", 1_000, CLOCK)
    await spool.hold("t", record("t"))
    await spool.send([record("big", 2_000)])
    assert spool.full
    for refused in (spool.send([record("x")]), spool.hold("u", record("u")), spool.send([record("x")], releases="u")):
        with pytest.raises(SpoolFull):
            await refused
    await spool.send([record("t complete")], releases="t")
    target = Target()
    async with sending(spool, target):
        assert await spool.drained(60)
    assert not spool.full
    assert [sent.key for sent in target.records] == [b"big", b"t complete"]


async def test_a_broker_that_is_away_is_tried_again_with_a_new_producer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deploy.gateway.spool.FIRST_PAUSE_S", 0.001)
    spool, targets = Spool(tmp_path / "spool.db", ROOM, CLOCK), list[Target]()

    def connect() -> Producer:
        targets.append(Target())
        if len(targets) == 1:
            raise OSError("nobody there")
        targets[-1].broken = len(targets) == 2
        return targets[-1]

    task = asyncio.create_task(spool.run(connect))
    await spool.send([record("a")])
    assert await spool.drained(60)
    task.cancel()
    assert [len(target.records) for target in targets] == [0, 0, 1]


async def test_a_record_that_the_broker_refuses_is_kept_and_holds_nobody_up(tmp_path: Path) -> None:
    spool, target = Spool(tmp_path / "spool.db", ROOM, CLOCK), Target()
    target.refused = b"b"
    refused = REGISTRY.get_sample_value("trimtab_spool_refused_total") or 0
    await spool.send([record("a"), record("b"), record("c")])
    async with sending(spool, target):
        assert await spool.drained(60)
    assert [sent.key for sent in target.records] == [b"a", b"c"]
    assert REGISTRY.get_sample_value("trimtab_spool_refused_total") == refused + 1
    target.refused = b""
    again = Spool(tmp_path / "spool.db", ROOM, CLOCK)
    assert again.aborted == 0
    async with sending(again, target):
        assert await again.drained(60)
    assert [sent.key for sent in target.records] == [b"a", b"c", b"b"]


async def test_the_metrics_tell_how_much_waits_and_how_long(tmp_path: Path) -> None:
    def told() -> list[float | None]:
        return [
            REGISTRY.get_sample_value(f"trimtab_spool_{name}")
            for name in ("records", "bytes", "limit_bytes", "oldest_seconds")
        ]

    clock = ManualClock()
    spool = Spool(tmp_path / "spool.db", ROOM, clock)
    assert told() == [0, 0, ROOM, 0]
    await spool.hold("t", record("t"))
    await spool.send([record("a", 100)])
    clock.set_forward(60)
    assert told() == [2, spool.size, ROOM, 60]
    assert spool.size > 100


def test_a_file_that_is_no_spool_is_said_to_be_none(tmp_path: Path) -> None:
    (tmp_path / "spool.db").write_text("not a database, but long enough to be looked at" * 50)
    with pytest.raises(Failed, match="is no SQLite database"):
        Spool(tmp_path / "spool.db", ROOM, CLOCK)


async def test_what_is_held_and_let_go_of_at_once_is_neither_kept_nor_sent(tmp_path: Path) -> None:
    path, target = tmp_path / "spool.db", Target()
    spool = Spool(path, ROOM, CLOCK)
    with blocked(path):
        first = asyncio.create_task(spool.send([record("first")]))
        await asyncio.sleep(0)
        both = [
            asyncio.create_task(spool.hold("t", record("t aborted"))),
            asyncio.create_task(spool.send([record("t complete")], releases="t")),
        ]
        await asyncio.sleep(0)
    await asyncio.gather(first, *both)
    async with sending(spool, target):
        assert await spool.drained(60)
    assert [sent.key for sent in target.records] == [b"first", b"t complete"]
    assert (spool.records, spool.size) == (0, 0)
    await spool.close()
    assert Spool(path, ROOM, CLOCK).aborted == 0


@pytest.mark.parametrize("recent_bytes", [0, 200, ROOM])
async def test_what_memory_has_no_room_for_is_read_from_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recent_bytes: int
) -> None:
    monkeypatch.setattr("deploy.gateway.spool.RECENT_BYTES", recent_bytes)
    monkeypatch.setattr("deploy.gateway.spool.RUN", 4)
    spool, target = Spool(tmp_path / "spool.db", ROOM, CLOCK), Target()
    names = [f"event {number}" for number in range(30)]
    for name in names[:20]:
        await spool.send([record(name)])
    async with sending(spool, target):
        await asyncio.gather(*(spool.send([record(name)]) for name in names[20:]))
        assert await spool.drained(60)
    assert [sent.key.decode() for sent in target.records] == names
    assert (spool.records, spool.size) == (0, 0)
    await spool.close()


@settings(max_examples=60)
@given(steps=st.lists(st.tuples(st.sampled_from(["send", "hold", "release", "crash", "drain"]), st.integers(0, 3))))
def test_whatever_happens_each_record_arrives_and_a_turn_is_complete_or_aborted(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int]]
) -> None:
    async def check() -> None:
        path, target = tmp_path_factory.mktemp("spool") / "spool.db", Target()
        spool, held, expected, number = Spool(path, ROOM, CLOCK), set[str](), list[bytes](), 0
        for step, turn in steps:
            number, name = number + 1, f"turn {turn}"
            if step == "send":
                await spool.send([record(f"event {number}")])
                expected.append(f"event {number}".encode())
            elif step == "hold" and name not in held:
                await spool.hold(name, record(f"{name} aborted"))
                held.add(name)
            elif step == "release" and name in held:
                await spool.send([record(f"{name} complete {number}")], releases=name)
                expected.append(f"{name} complete {number}".encode())
                held.discard(name)
            elif step == "crash":
                spool = Spool(path, ROOM, CLOCK)
                assert spool.aborted == len(held)
                expected += [f"{name} aborted".encode() for name in held]
                held.clear()
            elif step == "drain":
                async with sending(spool, target):
                    assert await spool.drained(60)
        async with sending(spool, target):
            assert await spool.drained(60)
        assert sorted(sent.key for sent in target.records) == sorted(expected)
        assert spool.records == len(held)
        await spool.close()

    asyncio.run(check())


async def test_a_disk_with_little_room_is_full_before_anything_fails(tmp_path: Path) -> None:
    left = float(RESERVE_BYTES)
    spool = Spool(tmp_path / "spool.db", ROOM, CLOCK, free=lambda: left)
    assert spool.why_full is None
    left -= 1
    assert spool.full
    assert "the disk is nearly full: 64 MB are left" in (spool.why_full or "")
    await spool.send([record("what was begun is kept all the same")])
    left = math.nan
    assert not spool.full  # nobody knows: what is written says so
    await spool.close()


async def test_a_disk_that_took_nothing_is_full_until_it_takes_something_again(tmp_path: Path) -> None:
    clock = ManualClock()
    spool = Spool(tmp_path / "spool.db", ROOM, clock, free=lambda: math.inf)
    ((pages,),) = spool._connection.execute("PRAGMA page_count").fetchall()
    spool._connection.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(sqlite3.OperationalError, match="full"):
        await spool.send([record("big", 100_000)])
    assert spool.full
    assert "could not be written" in (spool.why_full or "")
    await until(lambda: clock.waiting == 1)
    scratch = tmp_path / SCRATCH
    scratch.mkdir()  # nothing can be written there yet
    await clock.advance(AGAIN_S)
    await until(lambda: clock.waiting == 1)
    assert spool.full
    scratch.rmdir()
    await clock.advance(AGAIN_S)
    await until(lambda: not spool.full)
    assert not scratch.exists()
    spool._connection.execute("PRAGMA max_page_count = 100000")
    await spool.send([record("big", 100_000)])
    await spool.close()


async def test_a_spool_that_was_large_gives_its_room_back_when_all_is_sent(tmp_path: Path) -> None:
    path, target = tmp_path / "spool.db", Target()
    spool = Spool(path, 100 * ROOM, CLOCK)
    for _ in range(8):
        await spool.send([record("a", ROOM)])
    await spool.close()
    assert path.stat().st_size > 8 * ROOM
    again = Spool(path, 100 * ROOM, CLOCK)
    async with sending(again, target):
        await until(lambda: path.stat().st_size < 2 * ROOM, "a smaller file")
    assert len(target.records) == 8
    await again.close()
