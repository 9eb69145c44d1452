"""Adapters on an engine: loaded when they are wanted, let go of when nobody wants them any more."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest
from prometheus_client import REGISTRY

from deploy.engine.adapters import LocalEngines
from deploy.engine.loaded import LoadedAdapters
from deploy.engine.metrics import ROLES
from deploy.engine.refusing import RETRY_S
from deploy.rules.assignment import Routing, Shadow
from models.adapters import engine_name
from tests.deploy.engine.replies import A, B, C, Desk, begin, can_hold, failures, text
from tests.fakes import DEADLINE_S, FakeEngine, ManualClock, until


class SlowEngine(FakeEngine):
    """Loads and unloads when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.loading, self.unloading = threading.Event(), threading.Event()
        self.loading.set()
        self.unloading.set()
        self.unloads = 0

    def load_adapter(self, digest: str, path: Path) -> None:
        super().load_adapter(digest, path)
        assert self.loading.wait(DEADLINE_S)

    def unload_adapter(self, digest: str) -> None:
        self.unloads += 1
        assert self.unloading.wait(DEADLINE_S)
        super().unload_adapter(digest)


async def test_the_adapters_of_the_routing_are_loaded_and_others_let_go(
    engines: LocalEngines, engine: FakeEngine, desk: Desk
) -> None:
    desk.now = Routing(incumbent=A, candidate=B, rollout_id="r", share=0.5)
    await until(lambda: engine.adapters == {A, B})
    desk.now = Routing(incumbent=B)
    await until(lambda: engine.adapters == {B})
    assert engines.loaded == {B}


async def test_the_adapter_in_the_shadow_is_loaded_and_let_go_with_it(
    engines: LocalEngines, engine: FakeEngine, desk: Desk
) -> None:
    desk.now = Routing(incumbent=A, shadow=Shadow("s", B, 1, 1, 2, "5a" * 32))
    await until(lambda: engine.adapters == {A, B})
    labels = {"adapter": engine_name(B), "role": "shadow"}
    await until(lambda: REGISTRY.get_sample_value("trimtab_adapter_info", labels) == 1)
    desk.now = Routing(incumbent=A)
    await until(lambda: engine.adapters == {A})


async def test_halting_keeps_the_adapters_at_hand(engines: LocalEngines, engine: FakeEngine, desk: Desk) -> None:
    desk.now = Routing(incumbent=A, halted=True)
    await until(lambda: engine.adapters == {A})


async def test_an_adapter_that_can_not_be_loaded_is_tried_again_later(
    engines: LocalEngines, engine: FakeEngine, desk: Desk
) -> None:
    engine.broken = {A}
    desk.now, before = Routing(incumbent=A), failures("incumbent")
    assert not await can_hold(engines, A)
    assert not await can_hold(engines, A)
    assert engine.loads == [A]
    assert engines.why_not(A) == f"ValueError: {A[:4]} is broken"
    assert failures("incumbent") == before + 1
    engine.broken = set()
    desk.time_s += RETRY_S
    assert await can_hold(engines, A)
    assert engines.why_not(A) is None


async def test_one_that_can_not_be_loaded_is_counted_by_what_it_is_wanted_for_when_it_fails(
    engines: LocalEngines, engine: FakeEngine, desk: Desk
) -> None:
    engine.broken = {A, B, C}
    before = {role: failures(role) for role in ROLES}
    desk.now = Routing(incumbent=A, shadow=Shadow("s", B, 1, 1, 2, "5a" * 32))
    await until(lambda: engine.loads == [A, B])
    assert not await can_hold(engines, C, by_name=True)
    desk.now = Routing(incumbent=A, candidate=B, rollout_id="r", share=0.5)
    desk.time_s += RETRY_S
    await until(lambda: engine.loads == [A, B, C, A, B])
    await until(lambda: failures("candidate") == before["candidate"] + 1)
    assert {role: failures(role) - before[role] for role in ROLES} == {
        "incumbent": 2, "candidate": 1, "shadow": 1, "by_name": 1,
    }  # fmt: skip


async def test_only_the_last_two_adapters_asked_for_by_name_stay(engines: LocalEngines, engine: FakeEngine) -> None:
    for digest in (A, B, C):
        assert await can_hold(engines, digest, by_name=True)
    await until(lambda: engine.adapters == {B, C})


async def test_an_adapter_that_a_waiting_reply_needs_is_not_unloaded(
    engines: LocalEngines, engine: FakeEngine, desk: Desk
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


async def test_an_adapter_stays_until_the_last_reply_by_it_has_ended(
    engines: LocalEngines, engine: FakeEngine, desk: Desk
) -> None:
    engine.words = [" word"] * 10_000
    one, other = [await begin(engines, A, max_tokens=10_000) for _ in range(2)]
    await until(lambda: engine.under_way == 2)
    desk.now = Routing(incumbent=B)
    await until(lambda: B in engines.loaded)
    one.cancel()
    await until(lambda: engine.under_way == 1)
    assert A in engine.adapters
    other.cancel()
    await until(lambda: engine.adapters == {B})


async def test_an_adapter_that_can_not_be_unloaded_does_not_keep_others_from_being_loaded(
    engines: LocalEngines, engine: FakeEngine, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.now = Routing(incumbent=A)
    await until(lambda: engines.loaded == {A})

    def broken(_: str) -> None:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(engine, "unload_adapter", broken)
    desk.now = Routing(incumbent=B)
    await until(lambda: engines.loaded == {B})
    assert await text(await begin(engines, B)) == "bbbb says hello."


async def test_what_is_being_unloaded_is_loaded_again_for_whoever_asks_meanwhile(tmp_path: Path) -> None:
    engine = SlowEngine()
    adapters = LoadedAdapters(engine, tmp_path, Routing, ManualClock())
    await adapters.follow(Routing(incumbent=A))
    engine.unloading.clear()
    following = asyncio.create_task(adapters.follow(Routing()))
    await until(lambda: engine.unloads == 1)
    asking = asyncio.create_task(adapters.hold(A))
    engine.unloading.set()
    lease = await asking
    await following
    assert lease is not None
    assert (engine.adapters, adapters.digests) == ({A}, {A})
    await adapters.follow(Routing())
    assert engine.adapters == {A}  # as long as it is held
    lease.release()
    await adapters.follow(Routing())
    assert engine.adapters == set()


async def test_who_gives_up_while_an_adapter_is_loaded_does_not_keep_it(tmp_path: Path) -> None:
    engine = SlowEngine()
    engine.loading.clear()
    adapters = LoadedAdapters(engine, tmp_path, Routing, ManualClock())
    asking = asyncio.create_task(adapters.hold(A))
    await until(lambda: engine.loads == [A])
    asking.cancel()
    engine.loading.set()
    assert (await asyncio.gather(asking, return_exceptions=True))[0] is not None
    assert await adapters.hold(B) is not None
    await adapters.follow(Routing())
    assert (engine.adapters, adapters.digests) == ({B}, {B})


async def test_the_metrics_say_what_each_loaded_adapter_is_there_for(tmp_path: Path) -> None:
    adapters = LoadedAdapters(FakeEngine(), tmp_path, Routing, ManualClock())
    assert await adapters.hold(C, by_name=True)
    await adapters.follow(Routing(incumbent=A, candidate=B, rollout_id="r", share=0.5))
    await adapters.follow(Routing(incumbent=B))

    def role(digest: str, name: str) -> float | None:
        return REGISTRY.get_sample_value("trimtab_adapter_info", {"adapter": engine_name(digest), "role": name})

    assert (role(B, "incumbent"), role(C, "by_name")) == (1, 1)
    assert (role(A, "incumbent"), role(B, "candidate")) == (None, None)
