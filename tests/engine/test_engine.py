"""Real vLLM servers as the gateway's engine: what the routing names is loaded, proved and served; what they forget comes back.

No reply is ever by somebody else than it says, whatever becomes of the servers.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest
from msgspec import to_builtins

from deploy.engine.port import EngineFailed, NotReady
from deploy.engine.vllm.files import RESTS_S
from deploy.engine.vllm.plan import ZERO
from deploy.engine.vllm.replica import Replica
from deploy.rules.assignment import Routing
from models.adapters import engine_name, make_manifest
from tests.deploy.engine.replies import Desk
from tests.engine import adapters
from tests.engine.chats import QUESTIONS, USERS, Users, asked, begun, engine, proved, text, truth
from tests.engine.conftest import Trained
from tests.engine.server import READY_WITHIN_S, Vllm, vllm
from tests.fakes import CLOCK, until

AT_ONCE, MANY = 16, 160


async def test_what_the_routing_names_is_loaded_proved_and_served_and_the_base_stays_the_base(
    server: Vllm, trained: Trained, tmp_path: Path
) -> None:
    digest, desk = trained.candidate.name, Desk()
    async with engine([server], trained, desk, tmp_path) as served:
        await until(lambda: served.ready() is None)
        base = await truth(served)
        desk.now = Routing(incumbent=digest)
        await proved(served, digest)
        adapted = await truth(served, digest)
        for question in QUESTIONS:
            assert adapted[digest, question] != base[None, question]
            _, streamed = await begun(served, asked(question, stream=True), digest)
            assert await text(streamed) == adapted[digest, question]
        assert await truth(served) == base
        (state,) = served.state()
        assert (state["adapters"], state["away"]) == ([engine_name(digest)], None)
        desk.now = Routing()
        await until(lambda: not served.loaded)
        assert await truth(served) == base


async def test_under_mixed_load_every_reply_is_by_who_it_says_also_while_an_adapter_comes_and_goes(
    server: Vllm, trained: Trained, tmp_path: Path
) -> None:
    digest, desk = trained.candidate.name, Desk()
    async with engine([server], trained, desk, tmp_path) as served:
        await until(lambda: served.ready() is None)
        known = await truth(served)
        desk.now = Routing(incumbent=digest)
        await proved(served, digest)
        known |= await truth(served, digest)
        everybody = Users(served, desk, known)
        room = asyncio.Semaphore(AT_ONCE)

        async def ask(number: int) -> None:
            async with room:
                await everybody.ask(number)

        await asyncio.gather(*(ask(number) for number in range(MANY)))
        assert (everybody.wrong, everybody.failed) == ([], [])
        assert everybody.right == {digest: MANY // 2, None: MANY // 2}
        (state,) = served.state()
        assert str(state["base"]).startswith(ZERO)
        async with Users(served, desk, known) as users:
            await until(users.more(8))
            desk.now = Routing()
            await until(lambda: not served.loaded)
            desk.now = Routing(candidate=digest)
            await proved(served, digest)
            await until(users.more(8))
        assert (users.wrong, users.failed) == ([], [])


async def test_a_first_adapter_that_comes_amid_chats_with_the_base_answers_none_of_them(
    server: Vllm, trained: Trained, tmp_path: Path
) -> None:
    """The slots hold an adapter from before, as after a restart of the gateway: beside another the base itself is not asked."""
    digest, desk = trained.candidate.name, Desk()
    async with engine([server], trained, desk, tmp_path) as served:
        desk.now = Routing(incumbent=digest)
        await proved(served, digest)
        known = await truth(served, digest)
    desk.now = Routing()
    async with engine([server], trained, desk, tmp_path) as served:
        await until(lambda: served.ready() is None)
        known |= await truth(served)
        async with Users(served, desk, known) as users:
            await until(lambda: users.right[None] >= 8)
            desk.now = Routing(incumbent=digest)
            await proved(served, digest)
            await until(users.more(8))
        assert users.wrong == []


def poisoned(good: Path, folder: Path, trained: Trained) -> str:
    """A candidate that is whole and what its name says, and computes no numbers; its digest."""
    fresh = adapters.copied(good, folder / "fresh")
    (fresh / "adapter").rename(folder / "good")
    manifest = make_manifest(adapters.nan(folder / "good", fresh / "adapter"), trained.base)
    (fresh / "manifest.json").write_text(json.dumps(to_builtins(manifest)))
    fresh.rename(good.parent / manifest.digest)
    return manifest.digest


async def test_an_adapter_that_computes_no_numbers_is_sent_to_no_server(
    server: Vllm, trained: Trained, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nan, desk, said = poisoned(trained.candidate, tmp_path, trained), Desk(), ""
    before = server.log.read_text(errors="replace").count("/v1/load_lora_adapter")

    def refused() -> bool:
        nonlocal said
        said += capsys.readouterr().out
        return "adapter_not_loaded" in said

    async with engine([server], trained, desk, tmp_path / "adapters") as served:
        await until(lambda: served.ready() is None)
        base = await truth(served)
        desk.now = Routing(candidate=nan)
        await until(refused)
        assert "no number" in said
        assert await truth(served) == base
        with served.admit() as place:
            assert not await place.hold(nan, by_name=True)
    assert not (tmp_path / "adapters").exists()
    assert server.log.read_text(errors="replace").count("/v1/load_lora_adapter") == before


async def test_files_stay_while_a_server_lists_them_or_a_reply_is_by_them_and_then_go(
    replica: Replica, server: Vllm, trained: Trained, tmp_path: Path
) -> None:
    digest, desk, name = trained.candidate.name, Desk(), engine_name(trained.candidate.name)
    files, missed = tmp_path / digest, []

    async def listed() -> bool:
        there = files.exists()
        found = name in await replica.models()
        if found and not there:
            missed.append("listed without its files")
        return found

    async def gone() -> bool:
        return not await listed() and not files.exists()

    async with engine([server], trained, desk, tmp_path) as served:
        desk.now = Routing(incumbent=digest)
        await proved(served, digest)
        long_ago_s = files.stat().st_mtime - 2 * RESTS_S
        os.utime(files, (long_ago_s, long_ago_s))
        with served.admit() as place:
            assert await place.hold(digest)
            desk.now = Routing()
            asked_before = server.log.read_text(errors="replace").count("GET /health")
            await until(lambda: server.log.read_text(errors="replace").count("GET /health") > asked_before + 3)
            assert await listed()
            assert await text(place.begin(asked()))
        await until(gone)
        assert missed == []


@pytest.fixture(scope="module")
def mortal(trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vllm]:
    """Another server, for those that are paired or end it."""
    with vllm(trained.base, tmp_path_factory.mktemp("mortal")) as running:
        yield running


async def test_what_one_of_two_replicas_forgets_is_asked_of_the_other_at_once_and_comes_back(
    server: Vllm, mortal: Vllm, trained: Trained, tmp_path: Path, session: aiohttp.ClientSession
) -> None:
    digest, desk = trained.candidate.name, Desk()
    name, behind = engine_name(digest), Replica(session, mortal.url, CLOCK)
    async with engine([server, mortal], trained, desk, tmp_path) as served:
        await until(lambda: all(state["base"] for state in served.state()) and served.ready() is None)
        known = await truth(served)
        desk.now = Routing(incumbent=digest)
        await proved(served, digest)
        known |= await truth(served, digest)
        async with Users(served, desk, known) as users:
            await until(users.more(8))
            for lost in [[name], [model for model in await behind.models() if model.startswith(ZERO)]]:
                for model in lost:
                    await behind.unload(model)
                await until(users.more(8))
                await proved(served, digest)
                await until(users.more(8))
        assert (users.wrong, users.failed) == ([], [])


async def test_a_server_that_is_killed_amid_replies_and_started_again_has_its_adapter_back_within_seconds(
    server: Vllm, mortal: Vllm, trained: Trained, tmp_path: Path
) -> None:
    digest, desk = trained.candidate.name, Desk()
    async with engine([server, mortal], trained, desk, tmp_path) as served:
        await until(lambda: all(state["base"] for state in served.state()) and served.ready() is None)
        known = await truth(served)
        desk.now = Routing(candidate=digest)
        first_s = await proved(served, digest)
        known |= await truth(served, digest)
        async with Users(served, desk, known) as users:
            await until(users.more(8))
            mortal.kill()
            await until(users.more(8))
            mortal.again()
            before = CLOCK.monotonic_s()
            while not await asyncio.to_thread(mortal.healthy):
                assert CLOCK.monotonic_s() < before + READY_WITHIN_S
            back_s = await proved(served, digest)
            await until(users.more(16))
        replies = sum(users.right.values())
        took = (
            f"the adapter was back {back_s:.1f} s after /health (loaded at first in {first_s:.1f} s, with nobody about)"
        )
        print(f"{took}; {replies} replies, {len(users.failed)} broken off")
        assert users.wrong == []
        assert len(users.failed) <= USERS, "only what was under way there is broken off"


async def test_a_reply_whose_server_is_killed_fails_and_gives_back_its_place_and_its_adapter(
    mortal: Vllm, trained: Trained, tmp_path: Path
) -> None:
    digest, desk = trained.candidate.name, Desk()
    desk.now = Routing(incumbent=digest)
    async with engine([mortal], trained, desk, tmp_path) as served:
        await proved(served, digest)
        by, answer = await begun(served, asked(stream=True, ignore_eos=True, max_tokens=60), digest)
        documents = aiter(answer)
        assert (by, "choices" in await anext(documents)) == (digest, True)
        mortal.kill()
        with pytest.raises(EngineFailed, match="broke off its answer"):
            await text(documents)
        await until(lambda: served.ready() is not None)
        assert served.loaded == frozenset()
        with pytest.raises((EngineFailed, NotReady)):
            await text((await begun(served, asked(), digest))[1])
        assert (served._under_way, served._leases.held(digest)) == (0, False)
