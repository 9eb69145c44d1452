from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import REGISTRY

from deploy.engine.adapters import RETRY_LOAD_S, Engines
from deploy.engine.port import EngineFailed, NotReady, Overloaded, Sampling
from deploy.engine.thread import PARALLEL
from deploy.rules.assignment import Routing
from feedback.clock import SystemClock
from models.bases import Base
from tests.fakes import BASE, CLOCK, FakeEngine, until

A, B, C = "a" * 64, "b" * 64, "c" * 64
HELLO = [{"role": "user", "content": "Hello"}]
SAMPLING = Sampling(max_tokens=20)


class Desk(SystemClock):
    """A source of routings that says what it is told, with a clock that stands still."""

    def __init__(self) -> None:
        self.now = Routing()
        self.time_s = 1000.0
        self.away = False

    def monotonic_s(self) -> float:
        return self.time_s

    def routing(self) -> Routing:
        if self.away:
            raise OSError("the database is away")
        return self.now


@pytest.fixture
def desk() -> Desk:
    return Desk()


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine()


@pytest.fixture
async def engines(
    desk: Desk, engine: FakeEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Engines]:
    monkeypatch.setattr("deploy.engine.adapters.LOOK_S", 0.01)
    engines = Engines(lambda: BASE, tmp_path, desk, queue=2, make=lambda _: engine, clock=desk)
    await engines.start()
    await until(lambda: engines.ready() is None)
    yield engines
    engine.go.set()
    await engines.stop()


async def text(reply: Any) -> str:
    return "".join([piece async for piece in reply])


async def test_a_reply_streams_and_then_knows_how_it_ended(engines: Engines) -> None:
    reply = engines.reply(HELLO, None, SAMPLING)
    assert await text(reply) == "base says hello."
    assert (reply.finish_reason, reply.prompt_tokens, reply.completion_tokens) == ("stop", 7, 4)


async def test_the_adapters_of_the_routing_are_loaded_and_others_let_go(
    engines: Engines, engine: FakeEngine, desk: Desk
) -> None:
    desk.now = Routing(incumbent=A, candidate=B, rollout_id="r", share=0.5)
    await until(lambda: engine.adapters == {A, B})
    desk.now = Routing(incumbent=B)
    await until(lambda: engine.adapters == {B})
    assert engines.loaded == {B}


async def test_halting_keeps_the_adapters_at_hand(engines: Engines, engine: FakeEngine, desk: Desk) -> None:
    desk.now = Routing(incumbent=A, halted=True)
    await until(lambda: engine.adapters == {A})


async def test_an_adapter_that_can_not_be_loaded_is_tried_again_later(
    engines: Engines, engine: FakeEngine, desk: Desk
) -> None:
    engine.broken = {A}
    before = REGISTRY.get_sample_value("trimtab_adapter_load_failures_total") or 0.0
    assert not await engines.use(A)
    assert not await engines.use(A)
    assert engine.loads == [A]
    assert REGISTRY.get_sample_value("trimtab_adapter_load_failures_total") == before + 1
    engine.broken = set()
    desk.time_s += RETRY_LOAD_S
    assert await engines.use(A)


async def test_only_the_last_two_adapters_asked_for_by_name_stay(engines: Engines, engine: FakeEngine) -> None:
    for digest in (A, B, C):
        assert await engines.use(digest, by_name=True)
    await until(lambda: engine.adapters == {B, C})


async def test_an_adapter_that_a_waiting_reply_needs_is_not_unloaded(
    engines: Engines, engine: FakeEngine, desk: Desk
) -> None:
    desk.now = Routing(incumbent=A)
    await until(lambda: engines.loaded == {A})
    engine.go.clear()
    first = [engines.reply(HELLO, None, SAMPLING)]
    await until(lambda: engine.under_way == 1)
    waiting = [engines.reply(HELLO, A, SAMPLING) for _ in range(2)]
    desk.now = Routing(incumbent=B)
    await until(lambda: B in engines.loaded)
    assert A in engine.adapters
    engine.go.set()
    assert [await text(reply) for reply in first + waiting] == ["base says hello.", *["aaaa says hello."] * 2]
    await until(lambda: engine.adapters == {B})


async def test_more_than_may_wait_are_turned_away(engines: Engines, engine: FakeEngine) -> None:
    engine.go.clear()
    replies = [engines.reply(HELLO, None, SAMPLING)]
    await until(lambda: engine.under_way == 1)
    replies += [engines.reply(HELLO, None, SAMPLING) for _ in range(2)]
    with pytest.raises(Overloaded):
        engines.reply(HELLO, None, SAMPLING)
    engine.go.set()
    assert [await text(reply) for reply in replies] == ["base says hello."] * 3


async def test_replies_take_turns(engines: Engines, engine: FakeEngine) -> None:
    engine.words = [" word"] * 10_000
    endless = engines.reply(HELLO, None, Sampling(max_tokens=10_000))
    await until(lambda: engine.under_way == 1)
    assert (await text(engines.reply(HELLO, None, Sampling(max_tokens=2)))).startswith("base")
    assert endless.finish_reason is None
    assert PARALLEL > 1
    endless.cancel()
    await until(lambda: engine.under_way == 0)


async def test_a_cancelled_reply_ends_and_is_closed(engines: Engines, engine: FakeEngine) -> None:
    engine.go.clear()
    reply = engines.reply(HELLO, None, SAMPLING)
    await until(lambda: engine.under_way == 1)
    waiting = engines.reply(HELLO, None, SAMPLING)
    reply.cancel()
    waiting.cancel()
    engine.go.set()
    assert len((await text(reply)).split()) <= 2
    assert await text(waiting) == ""
    await until(lambda: engine.under_way == 0)
    assert reply.finish_reason is None


async def test_what_the_engine_raises_reaches_the_one_who_waits_and_nobody_else(
    engines: Engines, engine: FakeEngine
) -> None:
    engine.breaks_after = 1
    with pytest.raises(EngineFailed):
        await text(engines.reply(HELLO, None, SAMPLING))
    with pytest.raises(EngineFailed):
        await text(engines.reply(HELLO, C, SAMPLING))  # not loaded
    engine.breaks_after = None
    assert await text(engines.reply(HELLO, None, SAMPLING)) == "base says hello."


async def test_serving_goes_on_while_the_routing_can_not_be_read(engines: Engines, desk: Desk) -> None:
    desk.away = True
    assert await text(engines.reply(HELLO, None, SAMPLING)) == "base says hello."
    desk.away, desk.now = False, Routing(incumbent=A)
    await until(lambda: engines.loaded == {A})


async def test_stopping_ends_replies_under_way_with_an_error(engine: FakeEngine, desk: Desk, tmp_path: Path) -> None:
    engines = Engines(lambda: BASE, tmp_path, desk, queue=2, make=lambda _: engine, clock=CLOCK)
    await engines.start()
    await until(lambda: engines.ready() is None)
    engine.words = [" word"] * 1_000_000
    reply = engines.reply(HELLO, None, Sampling(max_tokens=1_000_000))
    await until(lambda: engine.under_way == 1)
    await engines.stop()
    with pytest.raises(EngineFailed):
        await text(reply)
    with pytest.raises(NotReady, match="stopping"):
        engines.reply(HELLO, None, SAMPLING)
    assert engine.under_way == 0


async def test_without_a_base_it_says_what_to_do_and_begins_once_there_is_one(
    engine: FakeEngine, desk: Desk, tmp_path: Path
) -> None:
    there: list[Base] = []
    find: Callable[[], Base | None] = lambda: there[0] if there else None  # noqa: E731
    engines = Engines(find, tmp_path, desk, queue=2, make=lambda _: engine, clock=CLOCK)
    await engines.start()
    await until(lambda: "trimtab train" in (engines.ready() or ""))
    with pytest.raises(NotReady, match="no base model yet"):
        engines.reply(HELLO, None, SAMPLING)
    there.append(BASE)
    await until(lambda: engines.ready() is None)
    assert await text(engines.reply(HELLO, None, SAMPLING)) == "base says hello."
    await engines.stop()


async def test_a_base_that_can_not_be_loaded_is_named(desk: Desk, tmp_path: Path) -> None:
    def broken(_: Base) -> FakeEngine:
        raise ValueError("config.json is not JSON")

    engines = Engines(lambda: BASE, tmp_path, desk, queue=2, make=broken, clock=CLOCK)
    await engines.start()
    await until(lambda: "config.json is not JSON" in (engines.ready() or ""))
    await engines.stop()
