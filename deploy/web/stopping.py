"""Around an app that is to stop: what comes now is refused, what has begun may end, and what takes too long is told so.

Refusals have OpenAI's shape and say when to come again. A stream that is cut short ends with an event that says why.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

import msgspec
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from deploy.web.errors import ApiError
from feedback.clock import Clock

RETRY_S = 5
LAST_WORD_S = 1.0
"""How long somebody who was cut short may take to read why."""


class Stopping:
    """An ASGI app around another."""

    def __init__(self, app: ASGIApp, clock: Clock) -> None:
        self._app, self._clock = app, clock
        self._stopping = False
        self._under_way: set[asyncio.Task[None]] = set()
        self._late: set[asyncio.Task[None]] = set()
        self._none = asyncio.Event()
        self._none.set()

    def stop(self) -> None:
        """Refuse what comes from here on."""
        self._stopping = True

    async def finished(self, within_s: float) -> None:
        """Once no request is under way; those that take longer than that are ended."""
        await self._clock.wait(self._none, within_s)
        self._late = set(self._under_way)
        for task in self._late:
            task.cancel()
        await self._none.wait()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
        elif self._stopping:
            await _refuse(scope, receive, send)
        else:
            await self._serve(scope, receive, send)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        task, said = asyncio.current_task(), _Said(send)
        assert task is not None
        self._under_way.add(task)
        self._none.clear()
        try:
            await self._app(scope, receive, said)
        except asyncio.CancelledError:
            if task not in self._late:
                raise
            task.uncancel()
            with suppress(TimeoutError):  # nobody reads it
                async with self._clock.timeout(LAST_WORD_S):
                    await said.why_not(scope, receive)
        finally:
            self._late.discard(task)
            self._under_way.discard(task)
            if not self._under_way:
                self._none.set()


class _Said:
    """Passes an answer on, and remembers how far it has come."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.begun = self.events = False
        """Whether there is an answer, and whether it is an unfinished stream of events."""

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.begun = True
            kinds = [value for name, value in message["headers"] if name.lower() == b"content-type"]
            self.events = any(kind.startswith(b"text/event-stream") for kind in kinds)
        await self._send(message)
        if message["type"] == "http.response.body" and not message.get("more_body", False):
            self.events = False

    async def why_not(self, scope: Scope, receive: Receive) -> None:
        """End the answer, wherever it is, by saying that the server stops."""
        if not self.begun:
            await _refuse(scope, receive, self._send)
        elif self.events:
            await self._send({"type": "http.response.body", "body": _event(_stopping()), "more_body": False})


def _stopping() -> ApiError:
    return ApiError(503, "stopping", "this server is stopping: ask again", retry_after_s=RETRY_S)


async def _refuse(scope: Scope, receive: Receive, send: Send) -> None:
    response = _stopping().response()
    response.headers["connection"] = "close"
    await response(scope, receive, send)


def _event(error: ApiError) -> bytes:
    return b"data: " + msgspec.json.encode(error.body) + b"\n\n"
