"""The engine as the gateway sees it: it begins, is ready, and stops."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from deploy.engine.adapters import LocalEngines
from deploy.engine.fetching import FETCHING
from deploy.engine.port import EngineFailed, NotReady
from deploy.rules.assignment import Routing
from models.bases import Base
from models.errors import JobFailed
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


async def test_a_base_that_is_had_without_a_training_is_fetched_and_what_goes_wrong_is_said_and_tried_again(
    engine: FakeEngine, desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there, tries, go = list[Base](), list[int](), asyncio.Event()

    async def fetch() -> None:
        tries.append(1)
        await go.wait()
        if len(tries) == 1:
            raise JobFailed("SmolLM2 can't be fetched: give the path of a base")
        there.append(BASE)

    monkeypatch.setattr("deploy.engine.adapters.RETRY_BASE_S", 0.01)
    find: Callable[[], Base | None] = lambda: there[0] if there else None  # noqa: E731
    engines = LocalEngines(find, tmp_path, desk, queue=2, make=lambda _: engine, fetch=fetch, clock=CLOCK)
    with capture_logs() as told:
        await engines.start()
        await until(lambda: engines.ready() == FETCHING)
        go.set()
        await until(lambda: engines.ready() is None)
    assert [line["error"] for line in told if line["event"] == "base_not_loaded"] == [
        "the base model can't be loaded: SmolLM2 can't be fetched: give the path of a base"
    ]
    assert len(tries) == 2
    await engines.stop()


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
