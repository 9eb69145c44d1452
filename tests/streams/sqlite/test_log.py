"""The embedded log: offsets without holes, durable, shared by processes."""

from __future__ import annotations

import sqlite3
import threading
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feedback.intake.edge import Record
from streams.log import LogError, lag
from streams.sqlite.log import SqliteLog
from tests.fakes import CLOCK, ManualClock


def record(key: str, value: str = "v", topic: str = "a") -> Record:
    return Record(topic, key.encode(), value.encode(), (("h", b"1"),))


def test_a_record_comes_back_as_it_was_sent(tmp_path: Path) -> None:
    log = SqliteLog(tmp_path / "log.db", CLOCK, partitions=1)
    assert log.append([record("k", "one"), record("k", "two")]) == [0, 1]
    one, two = log.read("a", 0, 0, 10)
    assert (one.key, one.value, one.headers, one.offset) == (b"k", b"one", (("h", b"1"),), 0)
    assert two.offset == 1
    assert log.read("a", 0, 1, 10) == [two]


def test_one_key_stays_in_one_partition(tmp_path: Path) -> None:
    log = SqliteLog(tmp_path / "log.db", CLOCK, partitions=8)
    log.append([record("same", str(n)) for n in range(20)])
    assert sorted(log.ends().values()) == [0] * 7 + [20]


def test_an_offset_is_never_given_twice_even_after_trimming(tmp_path: Path) -> None:
    log = SqliteLog(tmp_path / "log.db", CLOCK, partitions=1)
    log.append([record("k")] * 3)
    log.commit("g", {("a", 0): 3})
    assert log.trim(2**62, {"a": "g"}) == 3
    assert log.append([record("k")]) == [3]


def test_trimming_leaves_what_the_group_has_not_done(tmp_path: Path) -> None:
    log = SqliteLog(tmp_path / "log.db", CLOCK, partitions=1)
    log.append([record("k")] * 5)
    log.commit("g", {("a", 0): 2})
    assert log.trim(2**62, {"a": "g"}) == 2
    assert [r.offset for r in log.read("a", 0, 0, 10)] == [2, 3, 4]
    assert log.trim(0, {"a": "g"}) == 0


def test_a_commit_never_goes_back(tmp_path: Path) -> None:
    log = SqliteLog(tmp_path / "log.db", CLOCK, partitions=1)
    log.append([record("k")] * 5)
    log.commit("g", {("a", 0): 4})
    log.commit("g", {("a", 0): 2})
    assert log.committed("g") == {("a", 0): 4}
    assert lag(log, {"a": "g"}) == {"a": 1}


def test_a_failed_append_leaves_nothing(tmp_path: Path) -> None:
    log = SqliteLog(tmp_path / "log.db", CLOCK, partitions=1)
    with pytest.raises(AttributeError):
        log.append([record("k"), None])  # type: ignore[list-item]
    assert log.append([record("k")]) == [0]


CALLS: dict[str, tuple[str, Callable[[SqliteLog], object]]] = {
    "append": ("INSERT ON records", lambda log: log.append([record("k")])),
    "commit": ("INSERT ON offsets", lambda log: log.commit("g", {("a", 0): 1})),
    "rewind": ("UPDATE ON offsets", lambda log: log.rewind("done", {("a", 0): 0})),
    "create_topic": ("INSERT ON partitions", lambda log: log.create_topic("b")),
    "trim": ("DELETE ON records", lambda log: log.trim(2**62, {"a": "done"})),
}
"""Each call that writes, and what of it goes wrong."""


@pytest.mark.parametrize("call", CALLS)
def test_a_call_that_fails_half_way_leaves_nothing_and_stands_in_nobodys_way(tmp_path: Path, call: str) -> None:
    log, other = SqliteLog(tmp_path / "log.db", CLOCK, partitions=1), sqlite3.connect(tmp_path / "log.db", timeout=0.1)
    log.append([record("k")])
    log.commit("done", {("a", 0): 1})
    statement, do = CALLS[call]
    before = (log.ends(), log.committed("g"), log.committed("done"), log.topics())
    with other:
        other.execute(f"CREATE TRIGGER broken BEFORE {statement} BEGIN SELECT RAISE(ABORT, 'no luck'); END")
    with pytest.raises(sqlite3.DatabaseError, match="no luck"):
        do(log)
    assert (log.ends(), log.committed("g"), log.committed("done"), log.topics()) == before
    with other:
        other.execute("DROP TRIGGER broken")
    for _, again in CALLS.values():
        again(log)
    assert log.append([record("k")]) == [log.ends()["a", 0] - 1]


def test_a_full_disk_leaves_a_log_that_goes_on_when_there_is_room(tmp_path: Path) -> None:
    log = SqliteLog(tmp_path / "log.db", CLOCK, partitions=1)
    log.append([record("k")])
    ((pages,),) = log._connection.execute("PRAGMA page_count").fetchall()
    log._connection.execute(f"PRAGMA max_page_count = {pages}")
    for _ in range(2):
        with pytest.raises(sqlite3.OperationalError, match="full"):
            log.append([record("k", "x" * 100_000)])
    log._connection.execute("PRAGMA max_page_count = 100000")
    log.commit("g", {("a", 0): 1})
    assert log.append([record("k", "x" * 100_000)]) == [1]


def test_of_several_who_make_a_topic_at_once_one_has_made_it(tmp_path: Path) -> None:
    logs = [SqliteLog(tmp_path / "log.db", CLOCK) for _ in range(4)]
    for number in range(10):
        with ThreadPoolExecutor(len(logs)) as pool:
            made = list(pool.map(lambda log: log.create_topic(f"topic {number}"), logs))  # noqa: B023
        assert made.count(True) == 1


def test_what_is_no_log_is_refused_with_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    path.write_text("this is no database, but somebody's notes " * 100)
    with pytest.raises(LogError, match="move it away"):
        SqliteLog(path, CLOCK)


def test_a_newer_log_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    SqliteLog(path, CLOCK).close()
    connection = sqlite3.connect(path)
    connection.execute("UPDATE meta SET value = '9' WHERE name = 'format'")
    connection.commit()
    connection.close()
    with pytest.raises(LogError, match="upgrade"):
        SqliteLog(path, CLOCK)


def test_many_writers_share_one_file_without_holes(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    SqliteLog(path, CLOCK, partitions=2).create_topic("a")

    def write(writer: int) -> None:
        log = SqliteLog(path, CLOCK, partitions=2)
        for number in range(40):
            log.append([record(f"{writer}-{number}")])

    threads = [threading.Thread(target=write, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    log = SqliteLog(path, CLOCK)
    found = [r for partition in range(2) for r in log.read("a", partition, 0, 1_000)]
    assert len({r.key for r in found}) == 160
    for partition in range(2):
        offsets = [r.offset for r in log.read("a", partition, 0, 1_000)]
        assert offsets == list(range(len(offsets)))


@settings(max_examples=25)
@given(st.lists(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 5)), max_size=6), max_size=6))
def test_every_record_stands_once_in_the_order_of_its_key(
    tmp_path_factory: pytest.TempPathFactory, appends: list[list[tuple[str, int]]]
) -> None:
    log = SqliteLog(tmp_path_factory.mktemp("log") / "log.db", CLOCK, partitions=3)
    sent: dict[bytes, list[bytes]] = defaultdict(list)
    for number, append in enumerate(appends):
        records = [record(f"{topic}{key}", f"{number}.{place}") for place, (topic, key) in enumerate(append)]
        log.append(records)
        for r in records:
            sent[r.key].append(r.value)
    stored: dict[bytes, list[bytes]] = defaultdict(list)
    for partition in range(log.topics().get("a", 0)):
        for r in log.read("a", partition, 0, 1_000):
            stored[r.key].append(r.value)
    assert stored == sent


def test_what_retention_removes_is_room_on_the_disk_again(tmp_path: Path) -> None:
    path, clock = tmp_path / "log.db", ManualClock()
    log = SqliteLog(path, clock, partitions=1)
    log.append([record("old", "x" * 1_000) for _ in range(5_000)])
    clock.set_forward(100)
    log.append([record("new"), record("not done")])
    log.commit("g", {("a", 0): 5_001})
    size = path.stat().st_size + path.with_name("log.db-wal").stat().st_size
    assert log.trim(clock.now_us(), {"a": "g"}) == 5_000
    assert [r.key for r in log.read("a", 0, 0, 10)] == [b"new", b"not done"]
    log.append([record("the journal begins anew")])
    assert path.stat().st_size < 2_000_000 < 5_000_000 < size


def test_what_was_received_while_the_clock_was_ahead_goes_with_what_came_after_it(tmp_path: Path) -> None:
    clock = ManualClock()
    log = SqliteLog(tmp_path / "log.db", clock, partitions=1)
    log.append([record("before")])
    clock.set_forward(1_000_000)
    log.append([record("meanwhile"), record("meanwhile, not done")])
    clock.set_forward(-1_000_000 + 10)
    log.append([record("after")])
    log.commit("g", {("a", 0): 2})
    assert log.trim(clock.now_us() - 5_000_000, {"a": "g"}) == 1
    assert [r.key for r in log.read("a", 0, 0, 10)] == [b"meanwhile", b"meanwhile, not done", b"after"]
    clock.set_forward(20)
    assert log.trim(clock.now_us() - 5_000_000, {"a": "g"}) == 1
    assert [r.key for r in log.read("a", 0, 0, 10)] == [b"meanwhile, not done", b"after"]
