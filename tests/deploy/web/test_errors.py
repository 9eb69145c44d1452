"""Errors in OpenAI's shape, whatever raises them, with nothing in them of what a user wrote."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from structlog.testing import capture_logs

from deploy.control.records import UnknownCandidate
from deploy.errors import Failed, Refused
from deploy.web.errors import CLIENT_GONE, ApiError, bad, install


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, "invalid_request_error"),
        (401, "authentication_error"),
        (403, "permission_error"),
        (404, "not_found_error"),
        (409, "invalid_request_error"),
        (413, "invalid_request_error"),
        (429, "rate_limit_error"),
        (500, "server_error"),
        (503, "server_error"),
    ],
)
def test_the_type_is_what_openais_clients_expect_of_a_status(status: int, kind: str) -> None:
    answer = ApiError(status, "code", "what to do", "param").response()
    assert answer.status_code == status
    assert json.loads(bytes(answer.body)) == {
        "error": {"type": kind, "code": "code", "message": "what to do", "param": "param"}
    }


def test_the_headers_say_how_to_come_in_and_when_to_come_back() -> None:
    assert ApiError(401, "c", "m").response().headers["www-authenticate"] == "Bearer"
    assert ApiError(503, "c", "m", retry_after_s=0).response().headers["retry-after"] == "0"
    assert not {"www-authenticate", "retry-after"} & set(bad("m").response().headers)


async def ask(error: Exception, path: str = "/it", method: str = "GET") -> httpx.Response:
    """The answer of an app whose one route, /it/{number}, raises this."""
    app = FastAPI()
    install(app)

    @app.get("/it")
    async def raising(number: int = 0) -> None:
        raise error

    door = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=door, base_url="http://127.0.0.1") as client:
        return await client.request(method, path)


@pytest.mark.parametrize(
    ("error", "status", "code", "message"),
    [
        (bad("no", "n", "unsupported_parameter"), 400, "unsupported_parameter", "no"),
        (Refused("a rollout is under way"), 409, "refused", "a rollout is under way"),
        (UnknownCandidate("there is no candidate"), 404, "not_found", "there is no candidate"),
        (Failed("the disk is full"), 503, "failed", "the disk is full"),
        (HTTPException(404), 404, "not_found", "Not Found"),
        (HTTPException(418), 418, "invalid_request", "I'm a Teapot"),
        (ClientDisconnect(), CLIENT_GONE, "client_gone", "the client closed the connection"),
    ],
)
async def test_each_kind_of_error_is_told_alike(error: Exception, status: int, code: str, message: str) -> None:
    answer = await ask(error)
    said = answer.json()["error"]
    assert (answer.status_code, said["code"], said["message"]) == (status, code, message)
    assert list(said) == ["type", "code", "message", "param"]


async def test_what_the_router_refuses_keeps_its_headers_and_names_the_parameter() -> None:
    answer = await ask(Failed(""), method="POST")
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET")
    wrong = (await ask(Failed(""), "/it?number=x")).json()["error"]
    assert (wrong["code"], wrong["param"]) == ("invalid_value", "number")


def raises_deeply(depth: int) -> Exception:
    """An error that was raised so far down."""

    def down(left: int) -> None:
        if left == 0:
            raise RuntimeError("my secret")
        down(left - 1)

    try:
        down(depth)
    except RuntimeError as error:
        return error
    raise AssertionError


async def test_what_nobody_foresaw_is_logged_by_its_place_and_told_to_nobody() -> None:
    with capture_logs() as logged:
        answer = await ask(raises_deeply(9), "/it?number=7")
    assert (answer.status_code, answer.json()["error"]["code"]) == (500, "internal_error")
    (line,) = [dict[str, Any](entry) for entry in logged if entry["event"] == "request_failed"]
    assert (line["error"], line["path"]) == ("RuntimeError", "/it")
    assert len(line["at"].split(" > ")) == 4
    assert line["at"].split(" > ")[-1].startswith(f"{__name__}:")
    assert "secret" not in answer.text + str(logged)
