"""What is acknowledged is among the facts; what could not be committed is committed before what comes after it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from feedback.facts.reader import Facts
from feedback.facts.tables import Batch, Row
from feedback.facts.writer import FactsWriter
from feedback.topics import TURNS
from streams.hops import facts_sink
from streams.hops.facts_sink import COMMIT_EVERY_S, COMMIT_ROWS, FactsSink
from tests.fakes import CLOCK, ManualClock, until
from tests.feedback.builders import turn


def batch(first: int, rows: int = 1) -> Batch:
    """A stretch of one partition from an offset on."""
    made = tuple(Row(turn(f"t{offset}"), f"h{offset}", "d", offset, 0) for offset in range(first, first + rows))
    return Batch(TURNS, 0, made, first + rows)


class Commits(FactsWriter):
    """Remembers what is committed, and really commits it where it has a folder; fails so many times."""

    def __init__(self, root: Path | None = None, failures: int = 0) -> None:
        if root is not None:
            super().__init__(root, lambda topic: "log", CLOCK)
        self._real, self.failures, self.done = root is not None, failures, list[list[Batch]]()

    def commit(self, batches: Sequence[Batch]) -> int:
        if self.failures:
            self.failures -= 1
            raise OSError("no space left on device")
        self.done.append(list(batches))
        return super().commit(batches) if self._real else 0

    @property
    def rows(self) -> int:
        return sum(len(batch.rows) for commit in self.done for batch in commit)


class Acks:
    """Which batches were acknowledged, in order."""

    def __init__(self) -> None:
        self.seen: list[int] = []

    def of(self, number: int) -> Callable[[], None]:
        return lambda: self.seen.append(number)


def never(error: BaseException) -> None:
    raise AssertionError(error)


async def ended(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_batch_is_among_the_facts_when_it_is_acknowledged(tmp_path: Path) -> None:
    found: list[int] = []
    sink = FactsSink(Commits(tmp_path), never, CLOCK)
    await sink.put(batch(0, 3), lambda: found.append(len(list(Facts(tmp_path).turns()))))
    assert found == []
    await sink.drain()
    assert found == [3]


async def test_what_waits_is_committed_after_a_second_and_many_batches_together() -> None:
    clock, commits, acks = ManualClock(), Commits(), Acks()
    sink = FactsSink(commits, never, clock)
    running = asyncio.create_task(sink.run())
    await until(lambda: clock.waiting == 1)
    for number in range(3):
        await sink.put(batch(number), acks.of(number))
    await clock.advance(COMMIT_EVERY_S / 2)
    assert commits.done == []
    await clock.advance(COMMIT_EVERY_S)
    await until(lambda: acks.seen == [0, 1, 2], "all acknowledged")
    assert [len(commit) for commit in commits.done] == [3]
    await ended(running)


async def test_many_rows_do_not_wait_for_the_second_to_be_over() -> None:
    clock, acks = ManualClock(), Acks()
    sink = FactsSink(Commits(), never, clock)
    running = asyncio.create_task(sink.run())
    await sink.put(batch(0, COMMIT_ROWS), acks.of(0))
    await until(lambda: acks.seen == [0], "acknowledged while the clock stands still")
    await ended(running)


async def test_when_the_facts_are_slow_the_stream_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(facts_sink, "WAITING_ROWS", 10)
    commits, acks = Commits(), Acks()
    sink = FactsSink(commits, never, CLOCK)
    putting = [asyncio.create_task(sink.put(batch(4 * n, 4), acks.of(n))) for n in range(7)]
    for expected in (3, 6, 7):
        await asyncio.sleep(0)
        await until(lambda expected=expected: sum(task.done() for task in putting) == expected, "room is used")  # type: ignore[misc]
        await sink.drain()
    assert acks.seen == list(range(7))
    assert [len(commit) for commit in commits.done] == [3, 3, 1]


async def test_a_commit_that_fails_ends_the_process_and_acknowledges_nothing() -> None:
    clock, acks, fatal = ManualClock(), Acks(), list[BaseException]()
    sink = FactsSink(Commits(failures=1), fatal.append, clock)
    running = asyncio.create_task(sink.run())
    await sink.put(batch(0, COMMIT_ROWS), acks.of(0))
    await running
    assert [str(error) for error in fatal] == ["no space left on device"]
    assert acks.seen == []


async def test_what_could_not_be_committed_is_before_what_comes_after_it(tmp_path: Path) -> None:
    """Else the facts would be applied up to an offset, and below it some would be missing for good."""
    commits, acks = Commits(tmp_path, failures=1), Acks()
    sink = FactsSink(commits, never, CLOCK)
    await sink.put(batch(0, 2), acks.of(0))
    with pytest.raises(OSError, match="no space"):
        await sink.drain()
    await sink.put(batch(2, 2), acks.of(1))
    await sink.drain()
    assert acks.seen == [0, 1]
    assert {found.turn_id for found, _ in Facts(tmp_path).turns()} == {"t0", "t1", "t2", "t3"}


async def test_who_stops_waiting_for_a_commit_loses_nothing(tmp_path: Path) -> None:
    acks = Acks()
    sink = FactsSink(Commits(tmp_path), never, CLOCK)
    await sink.put(batch(0, 2), acks.of(0))
    draining = asyncio.create_task(sink.drain())
    await asyncio.sleep(0)
    await ended(draining)
    await sink.drain()
    assert acks.seen == [0]
    assert len(list(Facts(tmp_path).turns())) == 2


async def test_to_be_cancelled_is_no_failure() -> None:
    clock = ManualClock()
    running = asyncio.create_task(FactsSink(Commits(), never, clock).run())
    await until(lambda: clock.waiting == 1)
    await ended(running)
    assert running.cancelled()
