"""The engine's thread: replies go forward together, a few wait, the rest is turned away."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from deploy.engine.adapters import LocalEngines
from deploy.engine.port import EngineFailed, NotReady, Overloaded, Reply, Sampling
from deploy.engine.thread import PARALLEL, EngineThread
from tests.deploy.engine.replies import HELLO, SAMPLING, C, begin, request, text
from tests.fakes import FakeEngine, FakeGeneration, until


async def test_more_than_may_wait_are_turned_away(engines: LocalEngines, engine: FakeEngine) -> None:
    engine.go.clear()
    replies = [await begin(engines)]
    await until(lambda: engine.under_way == 1)
    replies += [await begin(engines) for _ in range(2)]
    with pytest.raises(Overloaded):
        await begin(engines)
    engine.go.set()
    assert [await text(reply) for reply in replies] == ["base says hello."] * 3


async def test_a_short_reply_ends_while_a_long_one_goes_on(engines: LocalEngines, engine: FakeEngine) -> None:
    engine.words = [" word"] * 10_000
    endless = await begin(engines, max_tokens=10_000)
    await until(lambda: engine.under_way == 1)
    assert (await text(await begin(engines, max_tokens=2))).startswith("base")
    assert endless.finish_reason is None
    assert PARALLEL > 1
    endless.cancel()
    await until(lambda: engine.under_way == 0)


async def test_a_cancelled_reply_ends_and_is_closed(engines: LocalEngines, engine: FakeEngine) -> None:
    engine.go.clear()
    reply = await begin(engines)
    await until(lambda: engine.under_way == 1)
    waiting = await begin(engines)
    reply.cancel()
    waiting.cancel()
    engine.go.set()
    assert len((await text(reply)).split()) <= 2
    assert await text(waiting) == ""
    await until(lambda: engine.under_way == 0)
    assert reply.finish_reason is None


async def test_what_the_engine_raises_reaches_the_one_who_waits_and_nobody_else(
    engines: LocalEngines, engine: FakeEngine
) -> None:
    engine.breaks_after = 1
    with pytest.raises(EngineFailed):
        await text(await begin(engines))
    with engines.admit() as place:
        assert await place.hold(C)
        engine.unload_adapter(C)  # the engine lost it
        reply = place.begin(request()).reply
    with pytest.raises(EngineFailed):
        await text(reply)
    engine.breaks_after = None
    assert await text(await begin(engines)) == "base says hello."


async def test_so_many_take_turns_and_the_next_begins_when_one_has_ended(engine: FakeEngine) -> None:
    thread, loop = EngineThread(PARALLEL + 1), asyncio.get_running_loop()
    engine.endless = True
    replies = [Reply(HELLO, None, SAMPLING, loop) for _ in range(PARALLEL + 1)]
    for reply in replies:
        thread.reserve()
        thread.put(reply)
    thread.start(engine)
    await until(lambda: engine.under_way == PARALLEL)
    assert len(engine.asked) == PARALLEL
    replies[3].cancel()
    await until(lambda: len(engine.asked) == PARALLEL + 1)
    assert engine.under_way == PARALLEL
    await asyncio.to_thread(thread.stop)
    assert engine.under_way == 0


async def test_replies_under_way_take_each_step_together_and_leave_when_they_end() -> None:
    class Watched(FakeEngine):
        def step(self, generations: Sequence[FakeGeneration]) -> list[str | Exception]:
            steps.append(len(generations))
            return super().step(generations)

    steps: list[int] = []
    thread, loop = EngineThread(9), asyncio.get_running_loop()
    replies = [Reply(HELLO, None, Sampling(max_tokens=tokens), loop) for tokens in (1, 3, 3)]
    for reply in replies:
        thread.reserve()
        thread.put(reply)
    thread.start(Watched())
    assert [await text(reply) for reply in replies] == ["base", "base says hello", "base says hello"]
    await asyncio.to_thread(thread.stop)
    assert sorted(steps, reverse=True) == steps
    assert (steps[0], steps[-1]) == (3, 2)


async def test_a_step_that_fails_as_a_whole_ends_those_in_it_and_the_thread_goes_on(engine: FakeEngine) -> None:
    step, failing = engine.step, [True]

    def fail_once(generations: Sequence[FakeGeneration]) -> list[str | Exception]:
        if failing:
            failing.clear()
            raise RuntimeError("the device is lost")
        return step(generations)

    engine.step = fail_once  # type: ignore[method-assign]
    thread, loop = EngineThread(9), asyncio.get_running_loop()
    first, second = Reply(HELLO, None, SAMPLING, loop), Reply(HELLO, None, SAMPLING, loop)
    thread.reserve()
    thread.put(first)
    thread.start(engine)
    with pytest.raises(EngineFailed):
        await text(first)
    assert engine.under_way == 0
    thread.reserve()
    thread.put(second)
    assert await text(second) == "base says hello."
    await asyncio.to_thread(thread.stop)


async def test_a_generation_that_can_not_be_closed_keeps_nobody_else_from_hearing_that_it_stops(
    engine: FakeEngine,
) -> None:
    class Stuck(FakeGeneration):
        def close(self) -> None:
            super().close()
            raise RuntimeError("the device is lost")

    engine.endless = True
    engine.generate = lambda *_, **__: Stuck(engine, ["word "], 10)  # type: ignore[method-assign]
    thread, loop = EngineThread(9), asyncio.get_running_loop()
    replies = [Reply(HELLO, None, SAMPLING, loop) for _ in range(PARALLEL + 1)]
    for reply in replies:
        thread.reserve()
        thread.put(reply)
    thread.start(engine)
    await until(lambda: engine.under_way == PARALLEL)
    await asyncio.to_thread(thread.stop)
    for reply in replies:
        with pytest.raises(EngineFailed):
            await text(reply)


def test_a_place_that_is_given_back_can_be_taken_again_and_stopping_refuses_all() -> None:
    thread = EngineThread(1)
    thread.reserve()
    with pytest.raises(Overloaded, match="1 requests are waiting"):
        thread.reserve()
    thread.cancel()
    thread.reserve()
    thread.stop()
    with pytest.raises(NotReady, match="stopping"):
        thread.reserve()


async def test_when_it_drains_what_waits_is_refused_at_once_and_what_has_begun_goes_on() -> None:
    engine, thread = FakeEngine(), EngineThread(10)
    engine.go.clear()
    thread.start(engine)
    loop = asyncio.get_running_loop()
    replies = [Reply([{"role": "user", "content": "hi"}], None, Sampling(9), loop) for _ in range(PARALLEL + 1)]
    for reply in replies:
        thread.reserve()
        thread.put(reply)
    thread.reserve()
    *begun, waiting = [asyncio.create_task(text(reply)) for reply in replies]
    await until(lambda: engine.under_way == PARALLEL, "as many replies as take turns")
    thread.drain()
    with pytest.raises(EngineFailed) as refused:
        await waiting
    assert isinstance(refused.value.__cause__, NotReady)
    with pytest.raises(NotReady, match="stopping"):
        thread.put(replies[0])
    engine.go.set()
    assert [await reply for reply in begun] == PARALLEL * ["base says hello."]
    await asyncio.to_thread(thread.stop)


async def test_it_is_idle_while_less_than_half_is_under_way_or_waits_or_is_kept() -> None:
    engine, thread = FakeEngine(), EngineThread(PARALLEL)
    engine.go.clear()
    thread.start(engine)
    loop, replies = asyncio.get_running_loop(), list[Reply]()
    for _ in range(PARALLEL // 2 - 1):
        thread.reserve()
        assert thread.idle == (len(replies) < PARALLEL // 2 - 1)
        replies.append(Reply([{"role": "user", "content": "hi"}], None, Sampling(9), loop))
        thread.put(replies[-1])
    await until(lambda: engine.under_way > 0, "a reply under way")
    assert thread.idle
    thread.reserve()
    assert not thread.idle
    thread.cancel()
    assert thread.idle
    engine.go.set()
    assert [await text(reply) for reply in replies] == len(replies) * ["base says hello."]
    for _ in range(PARALLEL // 2 - 1):
        thread.reserve()
    await until(lambda: thread.idle, "nothing is under way any more")
    await asyncio.to_thread(thread.stop)
