"""Around an app: every request has an id, in its answer and in every log line about it, and none fails with its text.

A client's own `X-Request-Id` is taken over, as OpenAI's does; one that is no short, plain token is replaced. A slash at the
end of a path is passed over: clients that follow no redirection with a body write it too.
"""

from __future__ import annotations

import re

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from deploy.web.errors import CLIENT_GONE, answered, bad, place
from deploy.web.pace import LATE, Kept, Late
from deploy.web.tokens import token_bytes

HEADER = "X-Request-Id"
_NAME = HEADER.lower().encode()
_PLAIN = re.compile(rb"[A-Za-z0-9._:/+=@-]{1,128}")

log = structlog.get_logger()


class Requests:
    """An ASGI app around another. `late` keeps those waiting who are refused, and longer whose body is (deploy.web.bodies), but
    for a port whose refusals are told `at_once`."""

    def __init__(self, app: ASGIApp, late: Late, *, at_once: bool = False) -> None:
        self._app, self._late, self._at_once = app, late, at_once

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        scope[LATE] = kept = Kept(self._late, self._at_once)
        name = request_id(scope)
        said = _Said(send, name, kept)
        structlog.contextvars.bind_contextvars(request_id=name.decode())
        try:
            if sum(name == b"host" for name, _ in scope["headers"]) > 1:
                raise bad("there are two host headers: send one", code="invalid_host")
            await self._app(without_slash(scope), receive, said)
        except Exception as error:
            if not said.begun:
                await answered(error, scope["path"])(scope, receive, said)
            elif not said.complete:  # uvicorn closes the connection, and would log the text, which may quote a user
                log.error("request_broken", error=type(error).__name__, at=place(error))
        return None


def without_slash(scope: Scope) -> Scope:
    """The same, for the path without a slash at its end."""
    path: str = scope["path"]
    return {**scope, "path": path.rstrip("/") or "/"} if path.endswith("/") else scope


def request_id(scope: Scope) -> bytes:
    """The id that a request brings with it, else a new one."""
    for name, value in scope["headers"]:
        if name == _NAME and _PLAIN.fullmatch(value):
            return bytes(value)
    return f"req_{token_bytes(16).hex()}".encode()


class _Said:
    """Passes an answer on, with the request's id."""

    def __init__(self, send: Send, name: bytes, kept: Kept) -> None:
        self._send, self._name, self._kept = send, name, kept
        self.begun = self.complete = False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.begun = True
            if 400 <= message["status"] < CLIENT_GONE and not self._kept.at_once:
                await self._kept.late.refused()
            message["headers"] = [*message.get("headers", ()), (_NAME, self._name)]
        elif not message.get("more_body", False):
            self.complete = True
        await self._send(message)
