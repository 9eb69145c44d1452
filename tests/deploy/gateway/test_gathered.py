"""Questions gathered: one call at a time, everybody gets the answer to what they asked, or why there is none."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from deploy.gateway.gathered import Gathered
from tests.fakes import until


class Far:
    """Doubles numbers, when it may; can't divide by zero."""

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.calls: list[list[int]] = []

    async def answer(self, questions: Sequence[int]) -> list[float]:
        self.calls.append(list(questions))
        await self.go.wait()
        return [2 / question for question in questions]


@pytest.fixture
def far() -> Far:
    return Far()


async def ask(gathered: Gathered[int, float], *questions: int) -> list[asyncio.Task[float]]:
    tasks = [asyncio.create_task(gathered.ask(question)) for question in questions]
    await asyncio.sleep(0)
    return tasks


async def test_who_asks_while_a_call_is_under_way_goes_with_the_next(far: Far) -> None:
    gathered = Gathered(far.answer, 3)
    tasks = await ask(gathered, 1)
    await until(lambda: len(far.calls) == 1)
    tasks += await ask(gathered, 2, 4, 5, 8)
    far.go.set()
    assert await asyncio.gather(*tasks) == [2, 1, 0.5, 0.4, 0.25]
    assert far.calls == [[1], [2, 4, 5], [8]]
    assert await gathered.ask(10) == 0.2


async def test_what_a_call_raises_all_get_who_asked_in_it_and_nobody_else(far: Far) -> None:
    gathered = Gathered(far.answer, 2)
    tasks = await ask(gathered, 1, 0, 2)
    far.go.set()
    got = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(one) for one in got] == [ZeroDivisionError, ZeroDivisionError, float]


async def test_who_goes_away_keeps_nobody_from_an_answer(far: Far) -> None:
    gathered = Gathered(far.answer, 10)
    tasks = await ask(gathered, 1, 2)
    await until(lambda: len(far.calls) == 1)
    tasks[0].cancel()
    far.go.set()
    assert await tasks[1] == 1
    assert await gathered.ask(4) == 0.5
