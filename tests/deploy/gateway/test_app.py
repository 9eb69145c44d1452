"""The gateway's doors: keys, bodies of every kind, errors in OpenAI's shape."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from unittest.mock import AsyncMock

import httpx
import openai
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prometheus_client import REGISTRY

from deploy.control.store import Control, open_control
from tests.deploy.gateways import Gateway, running
from tests.fakes import until

pytestmark = pytest.mark.slow
HELLO: Any = [{"role": "user", "content": "Hello"}]
CHAT = {"model": "trimtab", "messages": HELLO}


@pytest.fixture
async def gateway(control: Control, folder: Path) -> AsyncIterator[Gateway]:
    async with running(control, folder, max_request_bytes=100_000) as gateway:
        yield gateway


@pytest.fixture
async def locked(control: Control, folder: Path) -> AsyncIterator[Gateway]:
    async with running(control, folder, require_keys=True) as gateway:
        yield gateway


def error_of(answer: httpx.Response) -> dict[str, Any]:
    """The error object, once its shape is checked."""
    error = answer.json()["error"]
    assert error.keys() == {"type", "code", "message", "param"}
    assert error["message"]
    return dict(error)


async def test_with_keys_required_every_route_needs_one_with_the_right_scope(locked: Gateway) -> None:
    routes = {
        "chat": ("POST", "/v1/chat/completions"),
        "feedback": ("POST", "/v1/feedback"),
        "ingest": ("POST", "/v1/events"),
        "chat ": ("GET", "/v1/models"),
    }
    for scope, (method, path) in routes.items():
        others = {"chat", "feedback", "ingest"} - {scope.strip()}
        for key, status in ((None, 401), ("x", 401), ("tt_wrong", 401), (locked.new_key(*others), 403)):
            async with locked.http(key) as client:
                body = CHAT if "chat" in path else {"turn_id": "t", "kind": "thumbs", "value": True}
                answer = await client.request(method, path, json=body if method == "POST" else None)
            assert (answer.status_code, path, key) == (status, path, key)
            assert error_of(answer)["type"] == ("authentication_error" if status == 401 else "permission_error")
    assert locked.engine.asked == []


async def test_the_tenant_comes_from_the_key(locked: Gateway) -> None:
    await locked.openai(locked.new_key("chat", tenant="acme")).chat.completions.create(**CHAT)
    assert [event["tenant"] for event in locked.events()] == ["acme"]


async def test_a_revoked_key_opens_nothing(locked: Gateway) -> None:
    token = locked.new_key("chat")
    await locked.openai(token).chat.completions.create(**CHAT)
    locked.control.keys.revoke(locked.control.keys.list()[0].id, "ada", 1)
    client = locked.openai(token)

    async def refused() -> bool:
        try:
            await client.chat.completions.create(**CHAT)
        except openai.AuthenticationError:
            return True
        return False

    await until(refused, "the key is refused")


async def test_with_the_first_key_this_machine_needs_one_too(gateway: Gateway) -> None:
    await gateway.openai().chat.completions.create(**CHAT)
    token = gateway.new_key("chat")
    client = gateway.openai()

    async def refused() -> bool:
        try:
            await client.chat.completions.create(**CHAT)
        except openai.AuthenticationError:
            return True
        return False

    await until(refused, "nobody is let in without a key")
    logged = len(gateway.events())
    async with gateway.http() as stranger:
        for path in ("/v1/chat/completions", "/v1/events", "/v1/models", "/v1/feedback"):
            answer = await stranger.request("GET" if path == "/v1/models" else "POST", path, json=CHAT)
            assert (path, answer.status_code) == (path, 401)
        assert (await stranger.get("/nothing")).status_code == 404
    assert len(gateway.events()) == logged
    await gateway.openai(token).chat.completions.create(**CHAT)


async def test_where_loopback_is_trusted_this_machine_needs_none_beside_keys(control: Control, folder: Path) -> None:
    async with running(control, folder, trust_loopback=True) as trusting:
        trusting.new_key("chat")
        await trusting.openai().chat.completions.create(**CHAT)
        async with trusting.http(**{"x-forwarded-for": "127.0.0.1"}) as proxy:
            assert (await proxy.post("/v1/chat/completions", json=CHAT)).status_code == 403
    assert len(trusting.events()) == 1


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/models", "/nothing"])
async def test_a_page_whose_name_was_led_here_reaches_nothing_with_a_key_either(gateway: Gateway, path: str) -> None:
    async with gateway.http(gateway.new_key("chat"), host="evil.example") as page:
        answer = await page.post(path, json=CHAT)
    assert (answer.status_code, error_of(answer)["code"]) == (403, "forbidden")
    assert "access.host_names" in error_of(answer)["message"]
    assert gateway.events() == []


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"host": "evil.example"}, 403),
        ({"origin": "https://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"host": "[::1"}, 403),
        ({"host": "localhost:1", "origin": "http://localhost:1"}, 200),
        ({}, 200),
    ],
)
async def test_without_keys_only_this_machine_may_ask(gateway: Gateway, headers: dict[str, str], status: int) -> None:
    async with gateway.http(**headers) as client:
        answer = await client.post("/v1/chat/completions", json=CHAT)
    assert answer.status_code == status


async def test_browsers_of_allowed_origins_may_ask_and_read_the_turn(
    control: Control, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(control, folder, cors_origins=("https://shop.example",)) as gateway:
        asked = {"access-control-request-method": "POST", "access-control-request-headers": "content-type"}
        async with gateway.http(origin="https://shop.example") as client:
            before = await client.options("/v1/feedback", headers=asked)
            answer = await client.post("/v1/chat/completions", json=CHAT)
        assert before.headers["access-control-allow-origin"] == "https://shop.example"
        assert answer.headers["access-control-allow-origin"] == "https://shop.example"
        assert "X-Trimtab-Turn" in answer.headers["access-control-expose-headers"]
        broken = AsyncMock(side_effect=RuntimeError("unforeseen"))
        monkeypatch.setattr("deploy.gateway.chat.read_object", broken)
        monkeypatch.setattr("deploy.gateway.feedback.read_object", broken)
        async with gateway.http(origin="https://shop.example") as client:
            for path in ("/v1/chat/completions", "/v1/feedback"):
                failed = await client.post(path, json=CHAT)
                found = (failed.status_code, failed.headers["access-control-allow-origin"])
                assert found == (500, "https://shop.example")
        async with gateway.http(origin="https://evil.example") as client:
            assert "access-control-allow-origin" not in (await client.options("/v1/feedback", headers=asked)).headers


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"messages": [{"role": "user", "content": "a\x00b"}]}, "messages"),
        ({"temprature": 1}, "temprature"),
        ({"temperature": "hot"}, "temperature"),
        ({"metadata": {"conversation_id": "c" * 200}}, "metadata.conversation_id"),
        ({"user": ["ann"]}, "user"),
    ],
)
async def test_what_can_not_be_had_is_a_400_that_names_it(gateway: Gateway, change: Any, param: str) -> None:
    async with gateway.http() as client:
        answer = await client.post("/v1/chat/completions", json=CHAT | change)
    assert answer.status_code == 400
    assert error_of(answer)["param"] == param
    assert gateway.engine.asked == []


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "invalid_json"),
        (b"{", "invalid_json"),
        (b"[]", "invalid_type"),
        (b'"chat"', "invalid_type"),
        (b"[" * 60_000, "too_deep"),
        (b'{"a":' * 100 + b"1" + b"}" * 100, "too_deep"),
        (b'{"model":"\xff"}', "bad_utf8"),
        (b'{"model":"\\ud800"}', "invalid_json"),
        (b'{"model":"\\u0000"}', "invalid_value"),
        (b'{"seed":' + b"9" * 5_000 + b"}", "invalid_value"),
        (b'{"temperature":NaN}', "invalid_json"),
        (b'{"temperature":1e999}', "invalid_json"),
    ],
)
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/feedback"])
async def test_a_body_that_is_no_proper_json_object_is_a_400(
    gateway: Gateway, path: str, body: bytes, code: str
) -> None:
    async with gateway.http() as client:
        answer = await client.post(path, content=body)
    assert (answer.status_code, error_of(answer)["code"]) == (400, code)


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/feedback", "/v1/events"])
@pytest.mark.parametrize("chunked", [False, True])
async def test_a_body_that_is_too_large_is_a_413(gateway: Gateway, path: str, chunked: bool) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(11):
            yield b"x" * 10_000

    async with gateway.http() as client:
        answer = await client.post(path, content=chunks() if chunked else b"x" * 110_000)
    assert (answer.status_code, error_of(answer)["code"]) == (413, "request_too_large")


async def test_unknown_paths_methods_and_encodings_have_the_same_shape_of_error(gateway: Gateway) -> None:
    async with gateway.http() as client:
        assert error_of(await client.get("/v1/nothing"))["code"] == "not_found"
        assert error_of(await client.get("/v1/chat/completions"))["code"] == "method_not_allowed"
        gzipped = await client.post("/v1/events", content=b"", headers={"content-encoding": "gzip"})
    assert (gzipped.status_code, error_of(gzipped)["code"]) == (415, "unsupported_encoding")


async def test_what_nobody_foresaw_is_a_500_that_tells_nothing_of_it(
    gateway: Gateway,
) -> None:
    def broken(*_: Any) -> None:
        raise RuntimeError("the secret is 42")

    gateway.engines.admit = broken  # type: ignore[assignment]
    async with gateway.http() as client:
        answer = await client.post("/v1/chat/completions", json=CHAT | {"user": "ann"})
    assert answer.status_code == 500
    assert error_of(answer)["type"] == "server_error"
    assert "secret" not in answer.text


async def test_chats_go_on_while_the_control_database_is_away(gateway: Gateway) -> None:
    def away(*_: Any) -> None:
        raise OSError("no route to host")

    gateway.control.expose = away  # type: ignore[assignment, method-assign]
    async with gateway.http() as client:
        answer = await client.post("/v1/chat/completions", json=CHAT)
    assert answer.status_code == 200


def test_no_body_whatsoever_is_a_500(tmp_path: Path) -> None:
    """Hypothesis calls a synchronous test; the server stays up over all examples."""
    loop = asyncio.new_event_loop()
    context = running(open_control(tmp_path / "control.db"), tmp_path)
    gateway = loop.run_until_complete(context.__aenter__())
    client = gateway.http()

    async def post(path: str, body: bytes) -> httpx.Response:
        return await client.post(path, content=body)

    scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8)
    anything = st.recursive(
        scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    )
    roles = st.sampled_from(["user", "assistant", "tool", "developer"])
    message = st.fixed_dictionaries(
        {"role": roles, "content": st.text(max_size=20) | st.just([{"type": "text", "text": "hi"}])},
        optional=dict.fromkeys(["name", "tool_calls", "x"], anything),
    )
    valid = {
        "temperature": st.floats(0, 2),
        "max_tokens": st.integers(1, 2**63 - 1),
        "stop": st.text(max_size=4) | st.lists(st.text(max_size=3), max_size=5),
        "seed": st.integers(),
        "stream": st.booleans(),
        "metadata": st.dictionaries(st.sampled_from(["conversation_id", "locale", "app"]), st.text(max_size=9)),
        "user": st.text(max_size=9),
    }
    chat = st.fixed_dictionaries(
        {"model": st.just("trimtab"), "messages": st.lists(message, min_size=1, max_size=3)}, optional=valid
    )
    chat |= st.tuples(chat, st.sampled_from(["messages", "n", "stream_options", *valid]), anything).map(
        lambda made: made[0] | {made[1]: made[2]}
    )
    fields = ["turn_id", "value", "conversation_id", "occurred_at", "source", "user_id", "tags", "rubric", "locale"]
    kinds = st.sampled_from(["thumbs", "stars", "pick", "edit", "comment", "signal", "score"])
    rating = st.fixed_dictionaries({"kind": kinds | anything}, optional=dict.fromkeys(fields, anything))
    event = st.fixed_dictionaries(
        {"event": st.sampled_from(["turn", "rating"]), "event_id": anything},
        optional=dict.fromkeys([*fields, "kind", "messages", "reply", "policy", "rollout", "tenant"], anything),
    )
    bodies = st.tuples(st.just("/v1/chat/completions"), chat) | st.tuples(st.just("/v1/feedback"), rating)
    bodies |= st.tuples(st.just("/v1/events"), event)

    @settings(max_examples=200, suppress_health_check=list(HealthCheck))
    @given(bodies | st.tuples(st.sampled_from(["/v1/chat/completions", "/v1/feedback"]), anything))
    def check(request: tuple[str, Any]) -> None:
        path, body = request
        answer = loop.run_until_complete(post(path, json.dumps(body).encode("utf-8", "surrogatepass")))
        assert answer.status_code < 500
        if answer.status_code >= 400:
            error_of(answer)

    lost = REGISTRY.get_sample_value("trimtab_turns_lost_total")
    try:
        check()
        assert any(event["event"] == "turn" for event in gateway.events())
        assert REGISTRY.get_sample_value("trimtab_turns_lost_total") == lost, "a turn was served that can't be logged"
    finally:
        loop.run_until_complete(client.aclose())
        loop.run_until_complete(context.__aexit__(None, None, None))
        loop.close()


@pytest.mark.parametrize("path", ["/v1/models", "/v1/models/trimtab"])
async def test_who_asks_for_the_models_too_often_is_told_when_to_come_again(
    control: Control, folder: Path, path: str
) -> None:
    async with running(control, folder, requests_per_minute=1) as gateway, gateway.http() as client:
        assert (await client.get(path)).status_code == 200
        answer = await client.get(path)
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "60")
