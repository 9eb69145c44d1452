"""Request ids: taken over where they are plain, in the answer and in the logs; what breaks off is logged without its text."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
import structlog
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send
from structlog.testing import capture_logs

from deploy.web.errors import CLIENT_GONE
from deploy.web.pace import LATE, REFUSED_S, Late
from deploy.web.requests import Requests
from tests.fakes import CLOCK, ManualClock, until


async def ask(app: Any, *headers: tuple[bytes, bytes], path: str = "/") -> list[Message]:
    """What is sent; in a task of its own, as a server does it."""
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        return {"type": "http.request"}

    scope = {"type": "http", "method": "GET", "path": path, "headers": list(headers)}
    await asyncio.create_task(Requests(app, Late(CLOCK))(scope, receive, send))
    return sent


async def said(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"x", b"y")]})
    await send({"type": "http.response.body", "body": b"all"})


def id_in(sent: list[Message]) -> str:
    headers = dict(sent[0]["headers"])
    assert headers[b"x"] == b"y"
    return str(headers[b"x-request-id"].decode())


@pytest.mark.parametrize("name", [b"abc-123", b"0" * 128, b"5f3c/7:a=b+c@d.e_f"])
async def test_a_plain_id_is_taken_over(name: bytes) -> None:
    assert id_in(await ask(said, (b"x-request-id", name))) == name.decode()


@pytest.mark.parametrize("name", [b"", b"a b", b"0" * 129, b"a\tb", b'{"a":1}', b"\xe9", b"<script>"])
async def test_any_other_is_replaced_and_each_request_has_its_own(name: bytes) -> None:
    made = {id_in(await ask(said, (b"x-request-id", name))) for _ in range(2)}
    assert len(made) == 2
    assert all(each.startswith("req_") for each in made)


@pytest.mark.parametrize(
    ("status", "late"),
    [(400, True), (404, True), (429, True), (200, False), (CLIENT_GONE, False), (503, False), (-429, False)],
)
async def test_who_is_refused_is_told_a_little_late_but_for_what_an_engine_refuses(status: int, late: bool) -> None:
    by_engine, status = status < 0, abs(status)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if by_engine:
            scope[LATE].at_once = True
        await Response(b"", status)(scope, receive, send)

    clock, sent = ManualClock(), list[Message]()

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        return {"type": "http.request"}

    scope = {"type": "http", "method": "GET", "path": "/", "headers": []}
    answering = asyncio.create_task(Requests(app, Late(clock))(scope, receive, send))
    await until(lambda: clock.waiting > 0 or answering.done(), "the answer, or its being kept back")
    assert (not sent) == late
    await clock.advance(REFUSED_S)
    await answering
    assert sent[0]["status"] == status


async def test_every_log_line_about_a_request_has_its_id_also_in_tasks_that_it_began_and_no_other() -> None:
    log = structlog.get_logger()

    async def logging(scope: Scope, receive: Receive, send: Send) -> None:
        await asyncio.create_task(later())
        await said(scope, receive, send)

    async def later() -> None:
        log.info("asked")

    with capture_logs(processors=[structlog.contextvars.merge_contextvars]) as logged:
        await ask(logging, (b"x-request-id", b"r-1"))
        await later()
    assert [entry.get("request_id") for entry in logged] == ["r-1", None]


async def test_an_answer_that_breaks_off_is_logged_by_its_place_and_without_its_text() -> None:
    async def broken(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"x", b"y")]})
        raise RuntimeError("my secret")

    with capture_logs() as logged:
        sent = await ask(broken)
    assert [message["type"] for message in sent] == ["http.response.start"]
    assert (logged[0]["event"], logged[0]["error"]) == ("request_broken", "RuntimeError")
    assert "secret" not in str(logged)


async def test_an_error_before_any_answer_is_a_500_in_openais_shape_without_its_text() -> None:
    async def broken(scope: Scope, receive: Receive, send: Send) -> None:
        raise RuntimeError("my secret")

    with capture_logs() as logged:
        sent = await ask(broken)
    assert error_in(sent) == (500, "internal_error")
    assert "secret" not in str(logged) + str(sent)


@pytest.mark.parametrize(
    ("asked", "path"),
    [
        ("/v1/models/", "/v1/models"),
        ("/v1/models//", "/v1/models"),
        ("/v1/models", "/v1/models"),
        ("/", "/"),
        ("//", "/"),
    ],
)
async def test_a_path_with_a_slash_at_its_end_is_the_one_without(asked: str, path: str) -> None:
    seen: list[str] = []

    async def looking(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope["path"])
        await said(scope, receive, send)

    await ask(looking, path=asked)
    assert seen == [path]


async def test_two_hosts_are_refused_in_openais_shape_for_nobody_knows_which_was_meant() -> None:
    assert error_in(await ask(said, (b"host", b"a"), (b"host", b"b"))) == (400, "invalid_host")
    assert (await ask(said, (b"host", b"a")))[0]["status"] == 200


def error_in(sent: list[Message]) -> tuple[int, str]:
    start, body = sent
    assert dict(start["headers"])[b"x-request-id"]
    (error,) = json.loads(body["body"]).values()
    assert error.keys() == {"type", "code", "message", "param"}
    return start["status"], error["code"]


async def test_an_error_that_was_answered_is_not_told_twice() -> None:
    async def answered(scope: Scope, receive: Receive, send: Send) -> None:
        await said(scope, receive, send)
        raise RuntimeError("my secret")

    with capture_logs() as logged:
        assert len(await ask(answered)) == 2
    assert logged == []
