from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import REGISTRY

from deploy.engine.adapters import Engines
from deploy.engine.loaded import RETRY_LOAD_S
from deploy.engine.port import EngineFailed, NotReady, Overloaded, Reply, Sampling
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
        self.now: Routing | None = Routing()
        self.time_s = 1000.0

    def monotonic_s(self) -> float:
        return self.time_s

    def routing(self) -> Routing | None:
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


async def begin(engines: Engines, adapter: str | None = None, sampling: Sampling = SAMPLING) -> Reply:
    with engines.admit() as place:
        if adapter is not None:
            assert await place.hold(adapter)
        return place.begin(HELLO, sampling)


async def can_hold(engines: Engines, adapter: str, **options: bool) -> bool:
    with engines.admit() as place:
        return await place.hold(adapter, **options)


async def text(reply: Any) -> str:
    return "".join([piece async for piece in reply])


async def test_a_reply_streams_and_then_knows_how_it_ended(engines: Engines) -> None:
    reply = await begin(engines)
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
    assert not await can_hold(engines, A)
    assert not await can_hold(engines, A)
    assert engine.loads == [A]
    assert REGISTRY.get_sample_value("trimtab_adapter_load_failures_total") == before + 1
    engine.broken = set()
    desk.time_s += RETRY_LOAD_S
    assert await can_hold(engines, A)


async def test_only_the_last_two_adapters_asked_for_by_name_stay(engines: Engines, engine: FakeEngine) -> None:
    for digest in (A, B, C):
        assert await can_hold(engines, digest, by_name=True)
    await until(lambda: engine.adapters == {B, C})


async def test_an_adapter_that_a_waiting_reply_needs_is_not_unloaded(
    engines: Engines, engine: FakeEngine, desk: Desk
) -> None:
    desk.now = Routing(incumbent=A)
    await until(lambda: engines.loaded == {A})
    engine.go.clear()
    first = [await begin(engines)]
    await until(lambda: engine.under_way == 1)
    waiting = [await begin(engines, A) for _ in range(2)]
    desk.now = Routing(incumbent=B)
    await until(lambda: B in engines.loaded)
    assert A in engine.adapters
    engine.go.set()
    assert [await text(reply) for reply in first + waiting] == ["base says hello.", *["aaaa says hello."] * 2]
    await until(lambda: engine.adapters == {B})


async def test_an_adapter_that_a_request_has_chosen_stays_before_its_reply_is_in_the_line(
    engines: Engines, engine: FakeEngine, desk: Desk
) -> None:
    with engines.admit() as place:
        assert await place.hold(A)
        desk.now = Routing(incumbent=B)
        await until(lambda: B in engines.loaded)
        assert A in engine.adapters
        assert await text(place.begin(HELLO, SAMPLING)) == "aaaa says hello."
    await until(lambda: engine.adapters == {B})


async def test_an_adapter_stays_until_the_last_reply_by_it_has_ended(
    engines: Engines, engine: FakeEngine, desk: Desk
) -> None:
    engine.words = [" word"] * 10_000
    one, other = [await begin(engines, A, Sampling(max_tokens=10_000)) for _ in range(2)]
    await until(lambda: engine.under_way == 2)
    desk.now = Routing(incumbent=B)
    await until(lambda: B in engines.loaded)
    one.cancel()
    await until(lambda: engine.under_way == 1)
    assert A in engine.adapters
    other.cancel()
    await until(lambda: engine.adapters == {B})


@pytest.mark.parametrize("ending", ["told", "cancelled in the line", "failed", "never begun"])
async def test_however_a_request_ends_it_gives_its_adapter_and_its_place_back(
    engines: Engines, engine: FakeEngine, desk: Desk, ending: str
) -> None:
    engine.breaks_after = 1 if ending == "failed" else None
    for _ in range(5):  # more than there are places
        with engines.admit() as place:
            assert await place.hold(A)
            if ending == "never begun":
                continue
            reply = place.begin(HELLO, SAMPLING)
            if ending == "cancelled in the line":
                reply.cancel()
            with suppress(EngineFailed):
                await text(reply)
    desk.now = Routing(incumbent=B)
    await until(lambda: engine.adapters == {B})


async def test_of_two_adapters_tried_only_the_second_is_kept(engines: Engines, engine: FakeEngine, desk: Desk) -> None:
    engine.broken = {C}
    with engines.admit() as place:
        assert await place.hold(A)
        assert not await place.hold(C)
        assert await place.hold(B)
        desk.now = Routing()
        await until(lambda: engine.adapters == {B})


async def test_a_place_that_is_kept_counts_as_waiting(engines: Engines) -> None:
    with engines.admit(), engines.admit(), pytest.raises(Overloaded, match="2 requests"):
        engines.admit()
    assert await text(await begin(engines)) == "base says hello."


async def test_more_than_may_wait_are_turned_away(engines: Engines, engine: FakeEngine) -> None:
    engine.go.clear()
    replies = [await begin(engines)]
    await until(lambda: engine.under_way == 1)
    replies += [await begin(engines) for _ in range(2)]
    with pytest.raises(Overloaded):
        await begin(engines)
    engine.go.set()
    assert [await text(reply) for reply in replies] == ["base says hello."] * 3


async def test_replies_take_turns(engines: Engines, engine: FakeEngine) -> None:
    engine.words = [" word"] * 10_000
    endless = await begin(engines, None, Sampling(max_tokens=10_000))
    await until(lambda: engine.under_way == 1)
    assert (await text(await begin(engines, None, Sampling(max_tokens=2)))).startswith("base")
    assert endless.finish_reason is None
    assert PARALLEL > 1
    endless.cancel()
    await until(lambda: engine.under_way == 0)


async def test_a_cancelled_reply_ends_and_is_closed(engines: Engines, engine: FakeEngine) -> None:
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
    engines: Engines, engine: FakeEngine
) -> None:
    engine.breaks_after = 1
    with pytest.raises(EngineFailed):
        await text(await begin(engines))
    with engines.admit() as place:
        assert await place.hold(C)
        engine.unload_adapter(C)  # the engine lost it
        reply = place.begin(HELLO, SAMPLING)
    with pytest.raises(EngineFailed):
        await text(reply)
    engine.breaks_after = None
    assert await text(await begin(engines)) == "base says hello."


async def test_the_base_serves_before_the_routing_is_known(engines: Engines, desk: Desk) -> None:
    desk.now = None
    assert await text(await begin(engines)) == "base says hello."
    desk.now = Routing(incumbent=A)
    await until(lambda: engines.loaded == {A})


async def test_an_adapter_that_can_not_be_unloaded_does_not_keep_others_from_being_loaded(
    engines: Engines, engine: FakeEngine, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.now = Routing(incumbent=A)
    await until(lambda: engines.loaded == {A})

    def broken(_: str) -> None:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(engine, "unload_adapter", broken)
    desk.now = Routing(incumbent=B)
    await until(lambda: engines.loaded == {B})
    assert await text(await begin(engines, B)) == "bbbb says hello."


async def test_stopping_ends_replies_under_way_with_an_error(engine: FakeEngine, desk: Desk, tmp_path: Path) -> None:
    engines = Engines(lambda: BASE, tmp_path, desk, queue=2, make=lambda _: engine, clock=CLOCK)
    await engines.start()
    await until(lambda: engines.ready() is None)
    engine.words = [" word"] * 1_000_000
    reply = await begin(engines, None, Sampling(max_tokens=1_000_000))
    await until(lambda: engine.under_way == 1)
    await engines.stop()
    with pytest.raises(EngineFailed):
        await text(reply)
    with pytest.raises(NotReady, match="stopping"):
        await begin(engines)
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
        await begin(engines)
    there.append(BASE)
    await until(lambda: engines.ready() is None)
    assert await text(await begin(engines)) == "base says hello."
    await engines.stop()


async def test_a_base_that_can_not_be_loaded_is_named(desk: Desk, tmp_path: Path) -> None:
    def broken(_: Base) -> FakeEngine:
        raise ValueError("config.json is not JSON")

    engines = Engines(lambda: BASE, tmp_path, desk, queue=2, make=broken, clock=CLOCK)
    await engines.start()
    await until(lambda: "config.json is not JSON" in (engines.ready() or ""))
    await engines.stop()
