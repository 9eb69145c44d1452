"""An adapter is proved on the very replica that says it has it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from deploy.engine.vllm.answers import NotLoaded
from deploy.engine.vllm.proving import PARALLEL, TOGETHER, prove_base, prove_on, score, score_on
from deploy.engine.vllm.replica import Replica
from models.adapters import engine_name
from models.errors import AdapterInvalid
from tests.deploy.engine.vllm.fake_server import BASE, FakeVllm, likelihood, running
from tests.deploy.engine.vllm.speaking import Speaking, record_for
from tests.fakes import CLOCK, until

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


async def test_each_token_is_scored_after_all_before_it_and_alike_ones_are_asked_for_together() -> None:
    probes = [([1, 2], [5, 6, 5]), ([3], [6, 5]), ([4], [])]
    async with running(FakeVllm()) as server, aiohttp.ClientSession() as session:
        found = await score(Replica(session, server.url, CLOCK), BASE, probes)
        assert found == [
            [likelihood([*prompt, *reply[:at]], token) for at, token in enumerate(reply)] for prompt, reply in probes
        ]
        asked = [(fields["allowed_token_ids"], fields["prompt"]) for _, fields in server.asked]
    assert asked[0] == ([5], [[1, 2, 5, 6], [3, 6]]), "ends first: they bring all else into the server's cache"
    assert sorted(asked[1:]) == [([5], [[1, 2]]), ([6], [[1, 2, 5], [3]])]


async def test_a_score_has_a_cache_of_its_own() -> None:
    async with running(FakeVllm()) as server, aiohttp.ClientSession() as session:
        for _ in range(2):
            await score(Replica(session, server.url, CLOCK), BASE, [([1], [5, 6])])
        first, *_, last = salts = [fields["cache_salt"] for _, fields in server.asked]
    assert salts == [first, first, last, last]
    assert first != last


async def test_a_score_leaves_the_server_room_for_chats() -> None:
    probes = [([1], [token]) for token in [*range(2 * PARALLEL), *[99] * (TOGETHER + 1)]]
    under_way, go_on = list[int](), asyncio.Event()
    async with running(FakeVllm()) as server, aiohttp.ClientSession() as session:

        async def held(request: web.Request) -> web.StreamResponse:
            fields = await request.json()
            under_way.append(len(fields["prompt"]))
            await go_on.wait()
            return server._complete(fields)

        server.instead = held
        scoring = asyncio.create_task(score(Replica(session, server.url, CLOCK), BASE, probes))
        await until(lambda: len(under_way) == PARALLEL)
        go_on.set()
        await scoring
    assert (len(under_way), sorted(under_way)[-2:]) == (2 * PARALLEL + 2, [1, TOGETHER])
