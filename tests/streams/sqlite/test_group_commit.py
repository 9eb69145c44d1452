"""Group commit: what was taken is written, what comes after the end is refused, and nobody waits for ever."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from streams.log import LogError
from streams.sqlite.group_commit import GroupCommit
from tests.fakes import CLOCK, DEADLINE_S


async def at_once(awaitable: Any) -> Any:
    """What hangs is a failure, not a test run that never ends."""
    async with CLOCK.timeout(DEADLINE_S):
        return await awaitable


async def test_what_is_closed_refuses_at_once() -> None:
    written: list[int] = []
    commits = GroupCommit[int](written.extend)
    await commits.do(1)
    await commits.close()
    with pytest.raises(LogError, match="closed"):
        await at_once(commits.do(2))
    await at_once(commits.close())
    assert written == [1]


async def test_what_waits_when_it_closes_is_written() -> None:
    go, written = threading.Event(), list[int]()

    def write(jobs: Sequence[int]) -> None:
        assert go.wait(DEADLINE_S)
        written.extend(jobs)

    commits = GroupCommit[int](write)
    waiting = [asyncio.create_task(commits.do(number)) for number in range(10)]
    await asyncio.sleep(0)
    closing = asyncio.create_task(commits.close())
    await asyncio.sleep(0)
    go.set()
    await at_once(asyncio.gather(*waiting, closing))
    assert written == list(range(10))


class Unthinkable(BaseException):
    """No Exception."""


@pytest.mark.parametrize("error", [OSError("full"), Unthinkable()])
async def test_what_writing_raises_each_of_them_raises_and_the_next_is_written(error: BaseException) -> None:
    written: list[int] = []

    def write(jobs: Sequence[int]) -> None:
        if 0 in jobs:
            raise error
        written.extend(jobs)

    commits = GroupCommit[int](write)
    with pytest.raises(type(error)):
        await at_once(commits.do(0))
    await at_once(commits.do(1))
    await commits.close()
    assert written == [1]


@hypothesis_settings(max_examples=40)
@given(tasks=st.lists(st.integers(0, 4), max_size=12), threads=st.integers(0, 3), close_after=st.integers(0, 4))
def test_whoever_races_the_end_is_written_or_refused(tasks: list[int], threads: int, close_after: int) -> None:
    written: list[str] = []
    done: list[str] = []
    refused: list[str] = []

    async def race() -> None:
        commits, ready = GroupCommit[str](written.extend), threading.Barrier(threads + 1)

        async def send(name: str, turns: int) -> None:
            for _ in range(turns):
                await asyncio.sleep(0)
            try:
                await at_once(commits.do(name))
            except LogError:
                refused.append(name)
            else:
                done.append(name)

        async def send_all(number: int) -> None:
            await asyncio.gather(*(send(f"thread {number}, {job}", job) for job in range(6)))

        def elsewhere(number: int) -> None:
            ready.wait(DEADLINE_S)
            asyncio.run(send_all(number))

        others = [threading.Thread(target=elsewhere, args=(number,)) for number in range(threads)]
        for other in others:
            other.start()
        sending = [asyncio.create_task(send(f"task {number}", turns)) for number, turns in enumerate(tasks)]
        ready.wait(DEADLINE_S)
        for _ in range(close_after):
            await asyncio.sleep(0)
        await at_once(commits.close())
        await asyncio.gather(*sending)
        for other in others:
            await asyncio.to_thread(other.join)

    asyncio.run(race())
    assert sorted(done) == sorted(written)
    assert len(done) + len(refused) == len(tasks) + 6 * threads
