"""Faust on the embedded log: runs in order, from where group and facts stand, no partition starved by another."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import faust
import pytest
from faust.types import TP

from feedback.intake.edge import Record
from streams.app import App
from streams.runs import RUN
from streams.sqlite.link import link
from streams.sqlite.log import SqliteLog
from streams.sqlite.transport import POLL_S, Transport
from tests.fakes import CLOCK, ManualClock, until

TOPIC, GROUP = "a", "g"


@pytest.fixture
def log(tmp_path: Path) -> SqliteLog:
    made = SqliteLog(tmp_path / "log.db", CLOCK, partitions=3)
    made.create_topic(TOPIC)
    return made


def place(number: int) -> TP:
    return TP(TOPIC, number)


def fill(log: SqliteLog, partition: int, records: int) -> None:
    """Append so many to one partition."""
    before = log.ends()
    keys = (b"%d" % n for n in range(1_000))
    for key in keys:
        log.append([Record(TOPIC, key, b"")])
        if log.ends()[TOPIC, partition] > before[TOPIC, partition]:
            log.append([Record(TOPIC, key, b"")] * (records - 1))
            return


def consumer_of(log: SqliteLog, clock: Any = CLOCK, start: int | None = None, partitions: int = 3) -> Any:
    """The consumer of an app that was given all partitions."""
    app = App(GROUP, store="memory://")
    app.transport = link(log, clock).transport(app, lambda topic, partition: start)
    consumer: Any = app.consumer
    consumer._assigned = {place(number) for number in range(partitions)}
    consumer.resume_flow()
    return consumer


async def fetched(consumer: Any) -> list[tuple[TP, int, int]]:
    """Runs until there are no more: partition, first and last offset."""
    runs: list[tuple[TP, int, int]] = []
    while found := await consumer._getmany(None, 0.0):
        runs += [(tp, run[0].offset, run[-1].offset) for tp, some in found.items() for run in some]
    return runs


async def test_records_come_in_runs_of_bounded_length_and_in_order(tmp_path: Path) -> None:
    log = SqliteLog(tmp_path / "log.db", CLOCK, partitions=1)
    log.append([Record(TOPIC, b"k", b"")] * (2 * RUN + 5))
    consumer = consumer_of(log, partitions=1)
    await consumer.seek_to_committed()
    assert [(first, last) for _, first, last in await fetched(consumer)] == [
        (0, RUN - 1),
        (RUN, 2 * RUN - 1),
        (2 * RUN, 2 * RUN + 4),
    ]


async def test_a_partition_that_is_far_behind_leaves_the_others_their_turn(log: SqliteLog) -> None:
    ends = {}
    for number in range(3):
        fill(log, number, 5 * RUN if number == 0 else 1)
    ends = log.ends()
    consumer = consumer_of(log)
    await consumer.seek_to_committed()
    runs = await fetched(consumer)
    assert {tp.partition for tp, _, _ in runs[:4]} == {0, 1, 2}
    assert sum(last - first + 1 for _, first, last in runs) == sum(ends.values())


@pytest.mark.parametrize(("start", "begins"), [(None, 4), (2, 2), (9, 4)])
async def test_it_begins_where_the_group_stands_or_earlier_where_the_facts_hold_less(
    tmp_path: Path, start: int | None, begins: int
) -> None:
    log = SqliteLog(tmp_path / "log.db", CLOCK, partitions=1)
    log.append([Record(TOPIC, b"k", b"")] * 6)
    log.commit(GROUP, {(TOPIC, 0): 4})
    consumer = consumer_of(log, start=start, partitions=1)
    assert await consumer.seek_to_committed() == {place(0): begins}
    assert await fetched(consumer) == [(place(0), begins, 5)]


async def test_what_is_committed_is_where_the_next_one_begins(tmp_path: Path) -> None:
    log = SqliteLog(tmp_path / "log.db", CLOCK, partitions=1)
    log.append([Record(TOPIC, b"k", b"")] * 6)
    assert await consumer_of(log, partitions=1)._commit({place(0): 5})
    assert await consumer_of(log, partitions=1).seek_to_committed() == {place(0): 5}


async def test_only_partitions_that_are_active_and_placed_are_read(log: SqliteLog) -> None:
    for number in range(3):
        fill(log, number, 1)
    consumer = consumer_of(log)
    assert await fetched(consumer) == [], "before it was told where to begin"
    await consumer.seek_to_committed()
    found = await consumer._getmany({place(2)}, 0.0)
    assert set(found) == {place(2)}


async def test_a_log_with_nothing_new_is_looked_at_until_something_comes(tmp_path: Path) -> None:
    log, clock = SqliteLog(tmp_path / "log.db", CLOCK, partitions=1), ManualClock()
    log.create_topic(TOPIC)
    consumer = consumer_of(log, clock, partitions=1)
    await consumer.seek_to_committed()
    looking = asyncio.create_task(consumer._getmany(None, 1.0))
    await until(lambda: clock.waiting == 1)
    log.append([Record(TOPIC, b"k", b"v")])
    await clock.advance(POLL_S)
    assert [stored.value for (run,) in (await looking).values() for stored in run] == [b"v"]


async def test_it_stops_looking_when_its_time_is_over(tmp_path: Path) -> None:
    log, clock = SqliteLog(tmp_path / "log.db", CLOCK, partitions=1), ManualClock()
    log.create_topic(TOPIC)
    consumer = consumer_of(log, clock, partitions=1)
    await consumer.seek_to_committed()
    looking = asyncio.create_task(consumer._getmany(None, 1.0))
    await until(lambda: clock.waiting == 1)
    clock.set_forward(1.0)
    await clock.advance(POLL_S)
    assert await looking == {}


async def test_faust_knows_it_by_its_address(tmp_path: Path) -> None:
    app = faust.App("g", broker=f"sqlite://{tmp_path}/log.db", store="memory://")
    assert isinstance(app.transport, Transport)
    assert Path(app.transport.log.path) == tmp_path / "log.db"
