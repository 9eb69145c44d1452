"""An engine that says what it is told, and the gateway's view of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from deploy.engine.adapters import LocalEngines
from tests.deploy.engine.replies import Desk
from tests.fakes import BASE, FakeEngine, until


@pytest.fixture
def desk() -> Desk:
    return Desk()


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine()


@pytest.fixture
async def engines(
    desk: Desk, engine: FakeEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[LocalEngines]:
    monkeypatch.setattr("deploy.engine.adapters.LOOK_S", 0.01)
    engines = LocalEngines(
        lambda: BASE, tmp_path, desk, queue=2, max_tokens=1_000_000, make=lambda _: engine, clock=desk
    )
    await engines.start()
    await until(lambda: engines.ready() is None)
    yield engines
    engine.go.set()
    await engines.stop()
