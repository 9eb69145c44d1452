"""The engine as the gateway sees it: it begins, is ready, and stops."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from deploy.engine.adapters import LocalEngines
from deploy.engine.port import EngineFailed, NotReady
from deploy.rules.assignment import Routing
from models.bases import Base
from tests.deploy.engine.replies import A, Desk, begin, text
from tests.fakes import BASE, CLOCK, FakeEngine, until


async def test_the_base_serves_before_the_routing_is_known(engines: LocalEngines, desk: Desk) -> None:
    desk.now = None
    assert await text(await begin(engines)) == "base says hello."
    desk.now = Routing(incumbent=A)
    await until(lambda: engines.loaded == {A})


async def test_stopping_ends_replies_under_way_with_an_error(engine: FakeEngine, desk: Desk, tmp_path: Path) -> None:
    engines = LocalEngines(
        lambda: BASE, tmp_path, desk, queue=2, max_tokens=1_000_000, make=lambda _: engine, clock=CLOCK
    )
    await engines.start()
    await until(lambda: engines.ready() is None)
    engine.words = [" word"] * 1_000_000
    reply = await begin(engines, max_tokens=1_000_000)
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
    engines = LocalEngines(find, tmp_path, desk, queue=2, max_tokens=1_000_000, make=lambda _: engine, clock=CLOCK)
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

    engines = LocalEngines(lambda: BASE, tmp_path, desk, queue=2, make=broken, clock=CLOCK)
    await engines.start()
    await until(lambda: "config.json is not JSON" in (engines.ready() or ""))
    await engines.stop()
