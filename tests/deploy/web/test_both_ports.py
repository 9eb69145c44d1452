"""Both ports let people in, read bodies and answer errors alike."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from deploy.console.api import admin_router
from deploy.console.port import MAX_BODY_BYTES, admin_app
from deploy.control.store import Control
from deploy.decisions.operations import Operations
from deploy.engine.adapters import LocalEngines
from deploy.errors import Failed
from deploy.gateway.app import gateway_app
from deploy.gateway.control_link import ControlLink
from deploy.serving_settings import GatewaySettings
from deploy.settings import Settings
from deploy.web.pace import Late
from deploy.web.requests import Requests
from feedback.intake.edge import Edge
from tests.deploy.gateways import KEY
from tests.fakes import CLOCK, FakeEngine, MemoryProducer

LIMIT = 50_000
PUBLIC = Settings(gateway=GatewaySettings(max_request_bytes=LIMIT))


@dataclass(frozen=True)
class Door:
    """A route that takes a body."""

    path: str
    scope: str
    body: dict[str, Any]
    limit: int
    without_key: bool = False
    """Whether its body may say enough to do without a key: then it is read first."""

    @property
    def port(self) -> str:
        return "admin" if self.path.startswith("/admin") else "public"


THUMB = {"turn_id": "t", "kind": "thumbs", "value": True, "conversation_id": "c"}
DOORS = [
    Door("/v1/chat/completions", "chat", {"model": "trimtab", "messages": [{"role": "user", "content": "Hi"}]}, LIMIT),
    Door("/v1/feedback", "feedback", THUMB, LIMIT, without_key=True),
    Door("/v1/events", "ingest", THUMB, LIMIT),
    Door("/v1/label", "label", {"id": "0" * 32, "answer": "first"}, LIMIT),
    Door("/admin/v1/halt", "operate", {"reason": "it swears"}, MAX_BODY_BYTES),
    Door("/admin/v1/candidates/c0ffee/approve", "approve", {"evidence": "e", "reason": "r"}, MAX_BODY_BYTES),
    Door("/admin/v1/candidates/c0ffee/reject", "approve", {"reason": "r"}, MAX_BODY_BYTES),
    Door("/admin/v1/trainings/training-1/approve", "approve", {"reason": "r"}, MAX_BODY_BYTES),
]
ANY_DOOR = pytest.mark.parametrize("door", DOORS, ids=lambda door: door.path)
ANY_OBJECT = pytest.mark.parametrize(
    "door", [door for door in DOORS if door.path != "/v1/events"], ids=lambda door: door.path
)
ANY_PORT = pytest.mark.parametrize("port", ["public", "admin"])


@pytest.fixture
async def apps(control: Control, rules: Operations, folder: Path) -> AsyncIterator[Any]:
    """The app of a port."""
    link = ControlLink(control, CLOCK)

    def make(port: str, require_keys: bool) -> FastAPI:
        if port == "admin":
            return admin_app(lambda: None, [admin_router(rules, CLOCK, require_keys=require_keys)])
        engines = LocalEngines(lambda: None, folder, link, queue=4, make=lambda _: FakeEngine(), clock=CLOCK)
        return gateway_app(PUBLIC, link, Edge(KEY), MemoryProducer(), engines, KEY, CLOCK, require_keys=require_keys)

    yield make
    await link.stop()


@pytest.fixture
async def open_port(apps: Any) -> AsyncIterator[Any]:
    """A client of a port."""
    async with AsyncExitStack() as stack:

        async def make(port: str, require_keys: bool = False) -> httpx.AsyncClient:
            door = httpx.ASGITransport(apps(port, require_keys), raise_app_exceptions=False)
            return await stack.enter_async_context(httpx.AsyncClient(transport=door, base_url="http://127.0.0.1:8400"))

        yield make


def new_key(control: Control, *scopes: str) -> dict[str, str]:
    return {"authorization": f"Bearer {control.keys.create('app', None, scopes, 'ada', CLOCK.now_us())[0]}"}


def said(answer: httpx.Response) -> tuple[int, str]:
    """Status and code, once the error's shape is checked."""
    assert answer.json().keys() == {"error"}
    error = answer.json()["error"]
    assert error.keys() == {"type", "code", "message", "param"}
    assert error["message"]
    return answer.status_code, error["code"]


@ANY_DOOR
async def test_who_has_no_key_or_a_wrong_one_or_the_wrong_scope_is_told_so(
    door: Door, open_port: Any, control: Control
) -> None:
    client = await open_port(door.port, require_keys=True)
    wrong = new_key(control, *({"chat", "feedback", "ingest", "operate", "approve"} - {door.scope}))
    for headers in ({}, {"authorization": "Bearer x"}, {"authorization": "Bearer tt_wrong"}, {"authorization": "tt_x"}):
        answer = await client.post(door.path, json=door.body, headers=headers)
        assert said(answer) == (401, "invalid_api_key")
        assert answer.headers["www-authenticate"] == "Bearer"
    answer = await client.post(door.path, json=door.body, headers=wrong)
    assert said(answer) == (403, "insufficient_scope")
    assert door.scope in answer.json()["error"]["message"]


@ANY_DOOR
@pytest.mark.parametrize(
    "headers",
    [{"host": "evil.example"}, {"host": "[::1"}, {"host": ""}, {"origin": "https://evil.example"}, {"origin": "null"}],
    ids=str,
)
async def test_without_keys_another_host_name_or_page_reaches_nothing(
    door: Door, open_port: Any, headers: dict[str, str]
) -> None:
    client = await open_port(door.port)
    assert said(await client.post(door.path, json=door.body, headers=headers)) == (403, "forbidden")


@ANY_DOOR
@pytest.mark.parametrize("streamed", [False, True])
async def test_too_big_a_body_is_a_413(door: Door, open_port: Any, streamed: bool) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(11):
            yield b"x" * (door.limit // 10)

    client = await open_port(door.port)
    headers = {"content-type": "application/json"}
    body = chunks() if streamed else b"x" * (door.limit + 1)
    assert said(await client.post(door.path, content=body, headers=headers)) == (413, "request_too_large")


@ANY_OBJECT
@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "invalid_json"),
        (b"{", "invalid_json"),
        (b"[]", "invalid_type"),
        (b"[" * 40_000, "too_deep"),
        (b'{"reason":' * 100 + b"1" + b"}" * 100, "too_deep"),
        (b'{"reason":"\xff"}', "bad_utf8"),
        (b'{"reason":"\\ud800"}', "invalid_json"),
        (b'{"reason":"\\u0000"}', "invalid_value"),
        (b'{"reason":' + b"9" * 30 + b"}", "invalid_value"),
        (b'{"reason":NaN}', "invalid_json"),
    ],
    ids=lambda value: str(value)[:16],
)
async def test_a_body_that_is_no_proper_json_object_is_a_400(
    door: Door, open_port: Any, body: bytes, code: str
) -> None:
    client = await open_port(door.port)
    answer = await client.post(door.path, content=body, headers={"content-type": "application/json"})
    assert said(answer) == (400, code)


@pytest.mark.parametrize(
    "door", [d for d in DOORS if d.path not in ("/v1/events", "/v1/chat/completions")], ids=lambda door: door.path
)
async def test_an_unknown_field_is_named(door: Door, open_port: Any) -> None:
    client = await open_port(door.port)
    answer = await client.post(door.path, json=door.body | {"mood": "good"})
    assert said(answer)[0] == 400
    assert answer.json()["error"]["param"] == "mood"


@ANY_DOOR
async def test_an_encoded_body_is_a_415(door: Door, open_port: Any) -> None:
    client = await open_port(door.port)
    headers = {"content-encoding": "gzip", "content-type": "application/json"}
    assert said(await client.post(door.path, content=b"x", headers=headers)) == (415, "unsupported_encoding")


@pytest.mark.parametrize("door", [door for door in DOORS if not door.without_key], ids=lambda door: door.path)
async def test_a_stranger_can_not_make_us_read_a_body(door: Door, apps: Any) -> None:
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        raise AssertionError("the body was read")

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [(b"host", b"127.0.0.1"), (b"content-length", b"10000000"), (b"content-type", b"application/json")]
    request = {"type": "http", "method": "POST", "path": door.path, "query_string": b"", "headers": headers}
    await apps(door.port, require_keys=True)(request, receive, send)
    assert sent[0]["status"] == 401


@ANY_PORT
async def test_unknown_routes_and_wrong_methods_have_the_same_shape_of_error(port: str, open_port: Any) -> None:
    client = await open_port(port)
    known = "GET /admin/v1/rollout" if port == "admin" else "POST /v1/chat/completions"
    for path in ("/nothing", "/v1/nothing", "/admin/v1/nothing", "/metricss"):
        answer = await client.get(path)
        assert said(answer) == (404, "not_found")
        assert path in answer.json()["error"]["message"]
        assert known in answer.json()["error"]["message"]
    for path in ("/metrics", "/admin/v1/rollout") if port == "admin" else ("/v1/models", "/v1/models/x"):
        answer = await client.post(path, json={})
        assert said(answer) == (405, "method_not_allowed")
        assert answer.headers["allow"] == "GET"
        assert "takes GET, not POST" in answer.json()["error"]["message"]


@ANY_PORT
async def test_nobody_is_sent_elsewhere_for_a_slash(port: str, apps: Any, open_port: Any) -> None:
    path = "/admin/v1/rollout/" if port == "admin" else "/v1/models/"
    client = await open_port(port)
    assert said(await client.get(path)) == (404, "not_found")
    served = httpx.ASGITransport(Requests(apps(port, require_keys=False), Late(CLOCK)))  # as both are served
    async with httpx.AsyncClient(transport=served, base_url="http://127.0.0.1:8400") as client:
        assert (await client.get(path)).status_code == 200


@ANY_PORT
async def test_a_route_that_can_not_be_is_told_in_the_same_shape(port: str, open_port: Any) -> None:
    client = await open_port(port)
    path = "/admin/v1/trainings/training-1/perhaps" if port == "admin" else "/v1/models/perhaps"
    answer = await (client.post(path, json={"reason": "r"}) if port == "admin" else client.get(path))
    assert said(answer) == ((400, "invalid_value") if port == "admin" else (404, "model_not_found"))


@ANY_DOOR
async def test_what_nobody_foresaw_is_a_500_that_tells_nothing_of_it(
    door: Door, open_port: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: Any) -> bytes:
        raise RuntimeError("the secret is 42")

    for room in ("deploy.console.api", "deploy.gateway.chat", "deploy.gateway.feedback", "deploy.gateway.labelling"):
        monkeypatch.setattr(f"{room}.read_object", broken)
    monkeypatch.setattr("deploy.gateway.events.read_body", broken)
    client = await open_port(door.port)
    answer = await client.post(door.path, json=door.body)
    assert said(answer) == (500, "internal_error")
    assert "secret" not in answer.text


@ANY_DOOR
async def test_keys_that_can_not_be_read_are_a_503_that_tells_nothing_of_it(
    door: Door, open_port: Any, control: Control, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: Any) -> None:
        raise Failed("the control database at 10.0.0.7 can't be used")

    monkeypatch.setattr(control, "key", away)
    client = await open_port(door.port, require_keys=True)
    answer = await client.post(door.path, json=door.body, headers={"authorization": "Bearer tt_any"})
    assert said(answer) == (503, "not_ready")
    assert (answer.headers["retry-after"], "10.0" in answer.text) == ("5", False)


@ANY_PORT
async def test_on_this_machine_a_token_that_is_none_of_ours_counts_as_none(port: str, open_port: Any) -> None:
    client = await open_port(port)
    path = "/admin/v1/rollout" if port == "admin" else "/v1/models"
    assert (await client.get(path, headers={"authorization": "Bearer anything"})).status_code == 200
    assert said(await client.get(path, headers={"authorization": "Bearer tt_wrong"})) == (401, "invalid_api_key")


async def test_the_history_says_who_asked(open_port: Any, control: Control) -> None:
    client = await open_port("admin")
    assert (await client.post("/admin/v1/halt", json={})).status_code == 200
    assert (await client.post("/admin/v1/resume", json={}, headers=new_key(control, "operate"))).status_code == 200
    key = control.keys.list()[0]
    assert [entry.actor for entry in control.history() if entry.action in ("halt", "resume")] == [
        f"key app ({key.id})",
        "loopback",
    ]


async def test_the_openapi_document_says_what_the_admin_port_takes(open_port: Any) -> None:
    client = await open_port("admin")
    paths = (await client.get("/openapi.json")).json()["paths"]
    taken = {path: operations["post"]["requestBody"] for path, operations in paths.items() if "post" in operations}
    assert len(taken) == 9
    approval = json.dumps(taken["/admin/v1/candidates/{digest}/approve"])
    assert all(field in approval for field in ("evidence", "reason", "override_hold"))
    assert all(body["required"] for body in taken.values())
