"""An unmodified OpenAI client, through the gateway and directly to a server: the same answer, but for what is ours.

Ours are id, fingerprint and headers, and the model's name where an alias was asked for.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI
from pydantic import BaseModel

from deploy.control.store import Control
from deploy.decisions.operations import Operations
from deploy.serving_settings import EngineSettings
from tests.deploy.gateways import Gateway, incumbent, running
from tests.fakes import until
from tests.openai_answers import plainly
from tests.openai_server import (
    MODEL,
    USAGE,
    OpenAIServer,
    chunks,
    error,
    openai_server,
    raw,
    streaming,
)

pytestmark = pytest.mark.slow

HELLO: Any = [{"role": "user", "content": "Hello, I am ann@example.com"}]
WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "weather",
        "strict": True,
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "days": {"type": "array", "items": {"type": "integer"}}},
            "required": ["city", "days"],
            "additionalProperties": False,
        },
    },
}
PICTURE = "data:image/png;base64," + base64.b64encode(bytes(range(256)) * 8_000).decode()
LOOK: Any = [
    {
        "role": "user",
        "content": [{"type": "text", "text": "What is it?"}, {"type": "image_url", "image_url": {"url": PICTURE}}],
    }
]
SCHEMA: Any = {"type": "json_schema", "json_schema": {"name": "report", "schema": {"type": "object"}}}
CALLED: Any = [
    *HELLO,
    {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}],
    },
    {"role": "tool", "tool_call_id": "call_1", "content": "rain"},
]
ROOT = Path(__file__).parents[3]
OURS = {"id", "system_fingerprint", "model"}


class Report(BaseModel):
    city: str
    celsius: float


@dataclass
class Both:
    """The two ways to a server."""

    server: OpenAIServer
    gateway: Gateway
    direct: AsyncOpenAI
    through: AsyncOpenAI

    async def same(self, call: Callable[[AsyncOpenAI, str], Awaitable[Any]]) -> tuple[Any, dict[str, Any]]:
        """What the call gives through the gateway, compared with what it gives directly; and what the server was asked."""
        directly, through = await call(self.direct, MODEL), await call(self.through, "trimtab")
        assert plain(through) == plain(directly)
        one, other = self.server.bodies[-2:]
        assert {**other, "stream_options": None} == {**one, "stream_options": None}
        assert {**one.get("stream_options", {}), "include_usage": True} == other.get(
            "stream_options", {"include_usage": True}
        )
        return through, other


def plain(answer: Any) -> Any:
    """As plain JSON, without what is ours."""
    return plainly(answer, lambda found: OURS if "choices" in found else ())


@pytest.fixture
async def both(control: Control, folder: Path) -> AsyncIterator[Both]:
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(openai_server())
        engine = EngineSettings(kind="openai", urls=(server.url,), model=MODEL, aliases={"cheap": "small-model"})
        gateway = await stack.enter_async_context(running(control, folder, remote=engine))
        direct = await stack.enter_async_context(AsyncOpenAI(base_url=server.url, api_key="x", max_retries=0))
        yield Both(server, gateway, direct, gateway.openai())


PARAMETERS: dict[str, dict[str, Any]] = {
    "nothing more": {},
    "a conversation": {"messages": [{"role": "system", "content": "Be kind."}, *HELLO]},
    "results of tools": {"messages": CALLED, "tools": [WEATHER]},
    "tools": {"tools": [WEATHER], "tool_choice": "required", "parallel_tool_calls": True},
    "a schema": {"response_format": SCHEMA},
    "three choices": {"n": 3},
    "three choices of tools": {"n": 3, "tools": [WEATHER]},
    "logprobs": {"logprobs": True, "top_logprobs": 2, "n": 2},
    "a picture": {"messages": LOOK},
    "sampling": {
        "temperature": 0.2,
        "top_p": 0.9,
        "seed": 7,
        "stop": ["\n"],
        "max_completion_tokens": 50,
        "presence_penalty": 0.1,
        "logit_bias": {"50256": -100},
    },
    "what nobody has heard of": {"extra_body": {"x_new": {"deep": [1, None, "ü"]}, "top_k": 40}},
    "metadata": {"metadata": {"team": "support"}, "store": False},
}


@pytest.mark.parametrize("more", PARAMETERS.values(), ids=list(PARAMETERS))
async def test_a_whole_answer_is_the_same(both: Both, more: dict[str, Any]) -> None:
    async def ask(client: AsyncOpenAI, model: str) -> Any:
        return await client.chat.completions.create(**{"model": model, "messages": HELLO} | more)

    answer, _ = await both.same(ask)
    assert answer.model == "trimtab"
    assert answer.usage.to_dict() == USAGE


@pytest.mark.parametrize("usage", [True, False])
@pytest.mark.parametrize("more", PARAMETERS.values(), ids=list(PARAMETERS))
async def test_a_streamed_answer_is_the_same_chunk_by_chunk(both: Both, more: dict[str, Any], usage: bool) -> None:
    async def ask(client: AsyncOpenAI, model: str) -> Any:
        options: Any = {"stream_options": {"include_usage": True}} if usage else {}
        asked = {"model": model, "messages": HELLO, "stream": True} | options | more
        return [chunk async for chunk in await client.chat.completions.create(**asked)]

    told, asked = await both.same(ask)
    assert {chunk.model for chunk in told} == {"trimtab"}
    assert asked["stream_options"] == {"include_usage": True}
    assert len({chunk.id for chunk in told}) == 1


@pytest.mark.parametrize("more", [{}, {"tools": [WEATHER]}, {"n": 2}, {"logprobs": True}])
async def test_the_streaming_helper_tells_the_same_events(both: Both, more: dict[str, Any]) -> None:
    async def ask(client: AsyncOpenAI, model: str) -> Any:
        async with client.chat.completions.stream(model=model, messages=HELLO, **more) as stream:
            events = [event.type async for event in stream]
            return [*events, await stream.get_final_completion()]

    answer, _ = await both.same(ask)
    if "tools" in more:
        calls = answer[-1].choices[0].message.tool_calls
        assert [json.loads(call.function.arguments)["city"] for call in calls] == ["Graz", "Wörgl"]
        assert calls[0].function.parsed_arguments == {"city": "Graz"}


@pytest.mark.parametrize("stream", [True, False])
async def test_a_schema_is_parsed(both: Both, stream: bool) -> None:
    async def ask(client: AsyncOpenAI, model: str) -> Any:
        asked: Any = {"model": model, "messages": HELLO, "response_format": Report}
        if not stream:
            return await client.chat.completions.parse(**asked)
        async with client.chat.completions.stream(**asked) as helper:
            return await helper.get_final_completion()

    answer, sent = await both.same(ask)
    assert answer.choices[0].message.parsed == Report(city="Graz", celsius=21.5)
    assert sent["response_format"]["json_schema"]["name"] == "Report"


async def test_the_raw_response_has_our_headers_beside_the_same_answer(both: Both) -> None:
    async def ask(client: AsyncOpenAI, model: str) -> Any:
        raw_response = await client.chat.completions.with_raw_response.create(model=model, messages=HELLO)
        headers.append(dict(raw_response.headers))
        return raw_response.parse()

    headers: list[dict[str, str]] = []
    answer, _ = await both.same(ask)
    theirs, ours = headers
    assert ours["x-trimtab-turn"] == answer.id
    assert (ours["content-type"], theirs["content-type"].partition(";")[0]) == ("application/json",) * 2


async def test_names_lead_to_what_is_served_and_others_are_refused(both: Both) -> None:
    assert [model.id async for model in both.through.models.list()] == ["trimtab", MODEL, "cheap"]
    for name, asked in (("cheap", "small-model"), (MODEL, MODEL)):
        assert (await both.through.chat.completions.create(model=name, messages=HELLO)).model == name
        assert both.server.bodies[-1]["model"] == asked
    with pytest.raises(openai.NotFoundError) as raised:
        await both.through.chat.completions.create(model="gpt-9", messages=HELLO)
    assert raised.value.code == "model_not_found"


async def test_nodes_client_is_told_the_same(both: Both) -> None:
    modules = ROOT / ".make" / "node"
    if shutil.which("node") is None or not (modules / "node_modules" / "openai").is_dir():
        missing = "OpenAI's client for Node is not installed: install node and npm, then make .make/node"
        pytest.fail(missing) if os.environ.get("CI") else pytest.skip(missing)

    async def chats(url: str, model: str) -> dict[str, Any]:
        script = ROOT / "tests" / "node" / "client.mjs"
        node = await asyncio.create_subprocess_exec("node", script, modules, url, model, stdout=asyncio.subprocess.PIPE)
        out, _ = await node.communicate()
        assert node.returncode == 0
        return dict(json.loads(out))

    directly = await chats(both.server.url, MODEL)
    asked = [body["messages"] for body in both.server.bodies]
    through = await chats(f"{both.gateway.url}/v1", "trimtab")
    refused, theirs = through.pop("a model that is not there"), directly.pop("a model that is not there")
    assert refused == {"name": "NotFoundError", "status": 404, "code": "model_not_found"}
    assert theirs["choices"]  # whatever it is called, the fake serves it
    response = through.pop("with its response")
    assert response == {"data": response["data"], "turn": response["data"]["id"], "kind": "application/json"}
    assert plain(response["data"]) == plain(directly.pop("with its response")["data"])
    assert list(through) == list(directly)
    for name in through:
        assert plain(through[name]) == plain(directly[name]), name
    assert [body["messages"] for body in both.server.bodies][len(asked) :] == asked[:-1]
    assert [call["city"] for call in through["the streaming helper with tools"][1]] == ["Graz", "Wörgl"]


# what leaves the house, and what is logged


async def test_users_leave_hashed_and_what_is_said_to_us_alone_does_not_leave(both: Both) -> None:
    names: Any = {"user": "ann@example.com", "safety_identifier": "ann-7"}
    said: Any = {"conversation_id": "c-1", "locale": "de-AT", "team": "support"}
    await both.through.chat.completions.create(model="trimtab", messages=HELLO, metadata=said, **names)
    [body] = both.server.bodies
    edge = both.gateway.edge
    assert (body["user"], body["safety_identifier"]) == (edge.user("ann@example.com"), edge.user("ann-7"))
    assert body["metadata"] == {"team": "support"}
    [event] = await both.gateway.logged()
    assert (event["conversation_id"], event["locale"], event["tags"]) == ("c-1", "de-AT", {"team": "support"})
    assert event["user_id"] == edge.user("ann-7")
    del said["team"]
    await both.through.chat.completions.create(model="trimtab", messages=HELLO, metadata=said)
    assert "metadata" not in both.server.bodies[-1]


@pytest.mark.parametrize("stream", [True, False])
async def test_each_choice_is_a_turn_with_an_id_of_its_own(both: Both, stream: bool) -> None:
    answer: Any = await both.through.chat.completions.create(model="trimtab", messages=HELLO, n=3, stream=stream)
    answer_id = {chunk.id async for chunk in answer}.pop() if stream else answer.id
    events = await both.gateway.logged(3)
    assert [event["reply"] for event in events] == [f"Grüß Gott, I am number {index}." for index in range(3)]
    assert [event["extra"] for event in events] == [{"choice": index, "choices": 3} for index in range(3)]
    assert len({event["turn_id"] for event in events}) == 3
    assert events[0]["turn_id"] == answer_id
    assert len({event["conversation_id"] for event in events}) == 1
    costs = [event["usage"] for event in events]
    assert {name: value for name, value in costs[0].items() if name != "latency_ms"} == USAGE
    assert [set(cost) for cost in costs[1:]] == [{"latency_ms"}] * 2


async def test_tool_calls_are_logged_as_messages_streamed_or_not(both: Both) -> None:
    for stream in (False, True):
        told: Any = await both.through.chat.completions.create(
            model="trimtab", messages=CALLED, tools=[WEATHER], stream=stream
        )
        if stream:
            assert [chunk async for chunk in told]
    one, other = await both.gateway.logged(2)
    assert one["reply"] == other["reply"]
    assert one["finish_reason"] == other["finish_reason"] == "tool_calls"
    call = one["reply"]["tool_calls"][1]
    assert (set(call), call["function"]["name"]) == ({"id", "type", "function"}, "weather")
    assert json.loads(call["function"]["arguments"]) == {"city": "Wörgl", "days": [1, 2]}
    assert one["messages"][1]["tool_calls"][0]["function"]["name"] == "weather"
    assert one["messages"][2] == {"role": "tool", "tool_call_id": "call_1", "content": "rain"}


async def test_a_big_picture_does_not_push_the_text_out_of_the_log(both: Both) -> None:
    await both.through.chat.completions.create(model="trimtab", messages=[*HELLO, *LOOK])
    [event] = await both.gateway.logged()
    assert "truncated" not in event or not event["truncated"]
    text, picture = event["messages"][1]["content"]
    assert (event["messages"][0]["role"], text["text"]) == ("user", "What is it?")
    assert picture["image_url"]["url"].startswith("data:image/png;bytes=2048000;sha256=")
    assert both.server.bodies[0]["messages"][1] == LOOK[0]


async def test_a_whole_answer_that_is_longer_than_a_moment_is_told_in_pieces_as_they_come(both: Both) -> None:
    body = {"model": MODEL, "messages": HELLO}
    both.server.then(streaming(*list(chunks(body))[:3], end="silent"))
    stream = await both.through.chat.completions.create(model="trimtab", messages=HELLO, stream=True)
    told = [await anext(stream) for _ in range(3)]
    assert "".join(chunk.choices[0].delta.content or "" for chunk in told) == "Grüß G"
    await stream.close()
    await both.server.asked[0].gone.wait()
    [event] = await both.gateway.logged()
    assert (event["outcome"], event["reply"]) == ("aborted", "Grüß G")


# misfortune


@pytest.mark.parametrize("stream", [True, False])
async def test_its_errors_are_told_as_it_said_them(both: Both, stream: bool) -> None:
    both.server.always = error(429, "Rate limit reached for you.", "rate_limit_exceeded", retry_after="17")

    async def ask(client: AsyncOpenAI, model: str) -> Any:
        with pytest.raises(openai.RateLimitError) as raised:
            await client.chat.completions.create(model=model, messages=HELLO, stream=stream)  # type: ignore[call-overload]
        return [raised.value.body, raised.value.status_code, raised.value.response.headers["retry-after"]]

    (_, status, after), _ = await both.same(ask)
    assert (status, after) == (429, "17")
    [event] = await both.gateway.logged()
    assert (event["outcome"], event["reply"]) == ("error", "")


@pytest.mark.parametrize("stream", [True, False])
async def test_an_engine_that_makes_no_sense_is_one_sentence_in_openais_shape(both: Both, stream: bool) -> None:
    both.server.always = raw(b"<html>", status=502)
    with pytest.raises(openai.InternalServerError) as raised:
        await both.through.chat.completions.create(model="trimtab", messages=HELLO, stream=stream)  # type: ignore[call-overload]
    assert raised.value.body == {
        "type": "server_error",
        "code": "engine_failed",
        "message": "the engine answered 502, and not as OpenAI's API does",
        "param": None,
    }


async def test_an_error_in_the_middle_of_a_stream_is_an_error_of_openais_client(both: Both) -> None:
    body = {"model": MODEL, "messages": HELLO}
    said = {"error": {"message": "out of memory", "type": "server_error", "code": None}}
    both.server.always = streaming(*list(chunks(body))[:3], said)

    async def ask(client: AsyncOpenAI, model: str) -> Any:
        told = []

        async def listen() -> None:
            async for chunk in await client.chat.completions.create(model=model, messages=HELLO, stream=True):
                told.append(chunk)

        with pytest.raises(openai.APIError) as raised:
            await listen()
        return [told, raised.value.body, raised.value.message]

    (told, _, message), _ = await both.same(ask)
    assert (len(told), message) == (3, "out of memory")
    [event] = await both.gateway.logged()
    assert (event["outcome"], event["reply"]) == ("error", "Grüß G")


async def test_an_engine_that_goes_away_is_answered_for_and_comes_back(both: Both) -> None:
    both.server.then(*[raw(b"", status=503)] * 3)
    for _ in range(3):
        with pytest.raises(openai.InternalServerError):
            await both.through.chat.completions.create(model="trimtab", messages=HELLO)
    with pytest.raises(openai.InternalServerError) as raised:
        await both.through.chat.completions.create(model="trimtab", messages=HELLO)
    assert raised.value.code == "not_ready"
    assert raised.value.response.headers["retry-after"] == "5"
    assert len(both.server.asked) == 3

    async def back() -> bool:
        async with both.gateway.http() as client:
            body = {"model": "trimtab", "messages": HELLO}
            return (await client.post("/v1/chat/completions", json=body)).status_code == 200

    await until(back)


async def test_an_adapter_is_refused_and_the_base_answers(control: Control, folder: Path, rules: Operations) -> None:
    digest = incumbent(rules, folder)
    async with openai_server() as server:
        engine = EngineSettings(kind="openai", urls=(server.url,), model=MODEL)
        async with running(control, folder, remote=engine, require_keys=True) as gateway:
            client = gateway.openai(gateway.new_key("chat", "operate", "read", tenant=None))
            answer = await client.chat.completions.create(model="trimtab", messages=HELLO)
            assert (answer.choices[0].message.content, answer.system_fingerprint) == (
                "Grüß Gott, I am number 0.",
                "base",
            )
            [event] = await gateway.logged()
            assert (event["policy"], event.get("rollout")) == (MODEL, None)
            with pytest.raises(openai.BadRequestError) as raised:
                await client.chat.completions.create(model=f"tt-{digest[:16]}", messages=HELLO)
            assert raised.value.code == "model_not_loadable"
            assert "this engine takes no adapters" in raised.value.message
            assert len(server.asked) == 1


async def test_a_log_that_is_full_costs_no_place(control: Control, folder: Path) -> None:
    async with openai_server() as server:
        engine = EngineSettings(kind="openai", urls=(server.url,), model=MODEL, limit=1)
        async with running(control, folder, remote=engine, on_full="refuse") as gateway:
            client, body = gateway.openai(), {"model": "trimtab", "messages": HELLO}
            gateway.producer.broken = True
            for _ in range(3):
                with pytest.raises(openai.InternalServerError) as raised:
                    await client.chat.completions.create(**body, stream=True)  # type: ignore[call-overload]
                assert raised.value.code == "not_logged"
            gateway.producer.broken = False
            assert await client.chat.completions.create(**body)  # type: ignore[call-overload]


async def test_two_addresses_share_the_load_and_stand_in_for_each_other(control: Control, folder: Path) -> None:
    async with openai_server() as one, openai_server() as other:
        engine = EngineSettings(kind="openai", urls=(one.url, other.url), model=MODEL)
        async with running(control, folder, remote=engine) as gateway:
            client = gateway.openai()
            one.then(streaming(*list(chunks({"model": MODEL, "messages": HELLO}))[:2], end="silent"))
            stream = await client.chat.completions.create(model="trimtab", messages=HELLO, stream=True)
            await client.chat.completions.create(model="trimtab", messages=HELLO)
            assert (len(one.asked), len(other.asked)) == (1, 1)
            other.then(error(500, "a bug"))
            assert await client.chat.completions.create(model="trimtab", messages=HELLO)
            assert (len(one.asked), len(other.asked)) == (2, 2)
            await stream.close()
            assert [event.get("outcome", "ok") for event in await gateway.logged(3)] == ["ok", "ok", "aborted"]
