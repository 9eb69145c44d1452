"""An adapter is proved on the very replica that says it has it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from deploy.engine.vllm.answers import NotLoaded
from deploy.engine.vllm.proving import prove_base, prove_on, score_on
from deploy.engine.vllm.replica import Replica
from models.adapters import engine_name
from models.errors import AdapterInvalid
from tests.deploy.engine.vllm.fake_server import BASE, running
from tests.deploy.engine.vllm.speaking import Speaking, record_for
from tests.fakes import CLOCK

RECORD = record_for("d" * 64)
NAME = engine_name(RECORD.digest)


@pytest.fixture
async def server() -> AsyncIterator[Speaking]:
    async with running(Speaking(RECORD)) as fake:
        assert isinstance(fake, Speaking)
        yield fake


@pytest.fixture
async def replica(server: Speaking, tmp_path: Path) -> AsyncIterator[Replica]:
    async with aiohttp.ClientSession() as session:
        replica = Replica(session, server.url, CLOCK)
        await replica.load(NAME, tmp_path)
        yield replica


async def test_what_scores_as_it_was_recorded_is_proved(replica: Replica) -> None:
    base = await prove_base(replica, RECORD, BASE)
    assert (await prove_on(replica, RECORD, base, NAME)).strength == pytest.approx(1)


async def test_what_was_loaded_and_is_not_applied_is_not(replica: Replica, server: Speaking) -> None:
    server.wrong = {NAME}
    base = await score_on(replica, RECORD, BASE)
    with pytest.raises(AdapterInvalid, match=f"{server.url} has loaded {NAME}, and"):
        await prove_on(replica, RECORD, base, NAME)


async def test_an_adapter_that_answers_as_the_base_is_not_the_base(replica: Replica) -> None:
    with pytest.raises(AdapterInvalid, match="base"):
        await prove_base(replica, RECORD, NAME)


async def test_what_goes_wrong_with_a_score_is_told_as_what_it_is(replica: Replica, server: Speaking) -> None:
    server.restart()
    with pytest.raises(NotLoaded):
        await score_on(replica, RECORD, NAME)
