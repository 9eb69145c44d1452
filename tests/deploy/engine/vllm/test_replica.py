"""deploy/engine/vllm/replica.py against a server that answers as vLLM does; tests/engine asks a real one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import PurePath

import aiohttp
import pytest
from aiohttp import web

from deploy.engine.vllm.answers import (
    AdapterRefused,
    FilesNotVisible,
    NameTaken,
    NotANumber,
    NotLoaded,
    NotUnderstood,
    ReplicaAway,
)
from deploy.engine.vllm.replica import ANSWER_S, MAX_ANSWER_BYTES, Replica
from tests.deploy.engine.vllm.fake_server import BASE, FakeVllm, error, likelihood, never, running
from tests.fakes import CLOCK, ManualClock, until

NAME, HERE, THERE = "tt-0123456789abcdef", PurePath("/candidates/one/adapter"), PurePath("/candidates/two/adapter")


@pytest.fixture
async def server() -> AsyncIterator[FakeVllm]:
    async with running(FakeVllm()) as fake:
        fake.visible = {str(HERE), str(THERE)}
        yield fake


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as opened:
        yield opened


@pytest.fixture
def replica(server: FakeVllm, session: aiohttp.ClientSession) -> Replica:
    return Replica(session, server.url, CLOCK)


def says(status: int, text: str) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def answer(_: web.Request) -> web.StreamResponse:
        return web.Response(status=status, text=text)

    return answer


async def test_what_was_loaded_is_listed_with_its_path_until_it_is_unloaded(replica: Replica, server: FakeVllm) -> None:
    await replica.load(NAME, HERE)
    assert await replica.models() == {BASE: "/models/base", NAME: str(HERE)}
    await replica.unload(NAME)
    assert await replica.models() == {BASE: "/models/base"}


async def test_loaded_already_is_good_where_it_is_the_same_path(replica: Replica, server: FakeVllm) -> None:
    await replica.load(NAME, HERE)
    await replica.load(NAME, HERE)
    server.roots[NAME] = f"{HERE}/"  # somebody else's way to write it
    await replica.load(NAME, HERE)


async def test_loaded_already_from_another_path_is_no_success(replica: Replica) -> None:
    await replica.load(NAME, THERE)
    with pytest.raises(NameTaken, match=f"has an adapter {NAME} from {THERE}, not from {HERE}: unload it there"):
        await replica.load(NAME, HERE)


async def test_loaded_already_and_yet_not_listed_is_no_success(replica: Replica, server: FakeVllm) -> None:
    async def contradicts_itself(request: web.Request) -> web.StreamResponse:
        if request.path == "/v1/models":
            return web.json_response({"data": []})
        return error(400, f"The lora adapter '{NAME}' has already been loaded.")

    server.instead = contradicts_itself
    with pytest.raises(NameTaken, match="from a path that it does not say"):
        await replica.load(NAME, HERE)


async def test_of_several_that_load_at_once_all_succeed(replica: Replica, server: FakeVllm) -> None:
    await asyncio.gather(*(replica.load(NAME, HERE) for _ in range(4)))
    assert server.roots[NAME] == str(HERE)


async def test_a_path_that_the_server_does_not_see_is_said_to_be_so(replica: Replica, server: FakeVllm) -> None:
    server.visible.clear()
    with pytest.raises(FilesNotVisible, match=f"sees no adapter {NAME} in {HERE}: have the candidates mounted there"):
        await replica.load(NAME, HERE)


async def test_what_the_server_will_not_serve_is_refused_with_its_reason(replica: Replica, server: FakeVllm) -> None:
    server.refused[str(HERE)] = "LoRA rank 64 is greater than max_lora_rank 16."
    with pytest.raises(AdapterRefused, match="LoRA rank 64 is greater than max_lora_rank 16"):
        await replica.load(NAME, HERE)


async def test_the_bases_name_is_no_adapters(replica: Replica, server: FakeVllm) -> None:
    server.instead = lambda _: _answered(error(400, f"The lora adapter '{BASE}' conflicts with a served base model."))
    with pytest.raises(AdapterRefused, match="conflicts with a served base model"):
        await replica.load(BASE, HERE)


async def _answered(response: web.StreamResponse) -> web.StreamResponse:
    return response


async def test_a_server_that_breaks_over_a_load_is_away_and_the_adapter_not_refused(
    replica: Replica, server: FakeVllm
) -> None:
    server.breaks_on_load = True
    with pytest.raises(ReplicaAway, match=f"not well any more since it was to load adapter {NAME}"):
        await replica.load(NAME, HERE)


async def test_a_server_that_is_not_set_up_for_adapters_is_told_how(replica: Replica, server: FakeVllm) -> None:
    server.instead = says(404, '{"detail":"Not Found"}')
    for call in (replica.load(NAME, HERE), replica.unload(NAME), replica.models()):
        with pytest.raises(
            NotUnderstood, match=r"\(Not Found\): start it with --enable-lora and VLLM_ALLOW_RUNTIME_LORA"
        ):
            await call


async def test_a_wrong_key_is_said_to_be_one(replica: Replica, server: FakeVllm) -> None:
    server.instead = says(401, '{"error":"Unauthorized"}')
    with pytest.raises(
        NotUnderstood, match=r"status 401 \(Unauthorized\): give it the key that the server was started"
    ):
        await replica.models()


async def test_an_adapter_that_is_not_there_is_unloaded_already(replica: Replica) -> None:
    await replica.unload(NAME)


async def test_a_healthy_server_is_told_from_a_broken_and_from_an_absent_one(
    replica: Replica, server: FakeVllm, session: aiohttp.ClientSession
) -> None:
    assert await replica.healthy()
    server.broken = True
    assert not await replica.healthy()
    assert not await Replica(session, "http://127.0.0.1:1", CLOCK).healthy()


async def test_a_server_that_is_not_there_is_away(session: aiohttp.ClientSession) -> None:
    with pytest.raises(ReplicaAway, match=r"^http://127\.0\.0\.1:1 can't be reached \(.+\)$"):
        await Replica(session, "http://127.0.0.1:1/", CLOCK).models()


async def test_a_server_that_hangs_up_is_away(replica: Replica, server: FakeVllm) -> None:
    async def hangs_up(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    server.instead = hangs_up
    with pytest.raises(ReplicaAway, match="can't be reached"):
        await replica.load(NAME, HERE)


async def test_a_server_that_does_not_answer_is_away_once_the_time_is_up(
    server: FakeVllm, session: aiohttp.ClientSession
) -> None:
    clock, server.instead = ManualClock(), never
    asking = asyncio.create_task(Replica(session, server.url, clock).models())
    await until(lambda: server.asked != [], "it has been asked")
    await clock.advance(ANSWER_S + 1)
    with pytest.raises(ReplicaAway, match="/v1/models has not answered within 10 seconds"):
        await asking


async def test_an_answer_beyond_all_measure_is_not_read_to_its_end(replica: Replica, server: FakeVllm) -> None:
    server.instead = says(200, " " * (MAX_ANSWER_BYTES + 1))
    with pytest.raises(NotUnderstood, match="answers with more than 4 MiB"):
        await replica.models()


@pytest.mark.parametrize("text", ["<html>hello</html>", '{"data": 1}', "", "\xff", "[" * 5_000], ids=range(5))
async def test_an_answer_that_is_not_vllms_is_not_understood(replica: Replica, server: FakeVllm, text: str) -> None:
    server.instead = says(200, text)
    with pytest.raises(NotUnderstood, match="check that the address is vLLM's"):
        await replica.models()
    with pytest.raises(NotUnderstood, match="check that the address is vLLM's"):
        await replica.logprobs(BASE, 2, [[1]], "salt")


async def test_a_long_reason_is_cut_and_on_one_line(replica: Replica, server: FakeVllm) -> None:
    server.refused[str(HERE)] = "no\nway " * 1_000
    with pytest.raises(AdapterRefused) as refused:
        await replica.load(NAME, HERE)
    assert len(str(refused.value)) < 500
    assert "\n" not in str(refused.value)


async def test_a_redirection_is_not_followed(replica: Replica, server: FakeVllm) -> None:
    async def elsewhere(_: web.Request) -> web.StreamResponse:
        raise web.HTTPFound("/v1/other")

    server.instead = elsewhere
    with pytest.raises(NotUnderstood, match="status 302"):
        await replica.models()
    assert [path for path, _ in server.asked] == ["/v1/models"]


async def test_a_token_is_asked_for_after_each_context_in_one_request(replica: Replica, server: FakeVllm) -> None:
    await replica.load(NAME, HERE)
    server.asked.clear()
    found = await replica.logprobs(NAME, 8, [(5, 6), [5, 6, 7]], "salt")
    assert found == [likelihood([5, 6], 8), likelihood([5, 6, 7], 8)]
    ((path, fields),) = server.asked
    assert (path, fields["model"], fields["prompt"]) == ("/v1/completions", NAME, [[5, 6], [5, 6, 7]])
    assert (fields["allowed_token_ids"], fields["cache_salt"]) == ([8], "salt")


async def test_a_model_that_the_server_does_not_have_scores_nothing(replica: Replica, server: FakeVllm) -> None:
    await replica.load(NAME, HERE)
    server.restart()
    with pytest.raises(NotLoaded, match=f"has no model {NAME}, or no longer: load it again"):
        await replica.logprobs(NAME, 6, [[5]], "salt")


async def test_a_model_that_computes_no_numbers_is_told_from_a_server_that_fails(
    replica: Replica, server: FakeVllm
) -> None:
    await replica.load(NAME, HERE)
    server.nan.add(NAME)
    with pytest.raises(NotANumber, match=f"computes no numbers with {NAME}: unload it and restart that server"):
        await replica.logprobs(NAME, 6, [[5]], "salt")
    server.instead = says(500, "Internal Server Error")
    with pytest.raises(ReplicaAway, match=r"failed \(status 500: Internal Server Error\)"):
        await replica.logprobs(NAME, 6, [[5]], "salt")


async def test_another_tokens_number_is_not_taken_for_the_one_that_was_asked_for(
    replica: Replica, server: FakeVllm
) -> None:
    other = '{"choices":[{"index":0,"logprobs":{"tokens":["token_id:9"],"token_logprobs":[-1.5]}}]}'
    server.instead = says(200, other)
    assert await replica.logprobs(BASE, 9, [[5]], "salt") == [-1.5]
    with pytest.raises(NotUnderstood):
        await replica.logprobs(BASE, 6, [[5]], "salt")
