"""`POST /v1/chat/completions` and `GET /v1/models`, in OpenAI's shape.

An engine's documents are told as they come. Ours in them are the id, the fingerprint, and what it left out; which adapter
answered is told to nobody but who may read it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
from fastapi import APIRouter, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from deploy.gateway import metrics
from deploy.gateway.dispatch import Dispatcher, no_model
from deploy.gateway.identity import HEADER, header_value, user_of
from deploy.gateway.live_turn import Document, LiveTurn
from deploy.web.bodies import read_object
from deploy.web.callers import Caller, Callers
from deploy.web.errors import CLIENT_GONE, ApiError
from feedback.clock import Clock
from models.adapters import engine_name

TURN_HEADER, ADAPTER_HEADER = "X-Trimtab-Turn", "X-Trimtab-Adapter"
BASE = "base"
"""What stands for the bare base where else an adapter's digest would."""

FINGERPRINT = "trimtab"
"""What stands there for whoever may not know who answered."""

COMMENT_S = 10.0
"""How often a stream that has nothing to tell yet says that it is alive: proxies cut what is silent."""

_encode = msgspec.json.Encoder().encode


def chat_router(dispatcher: Dispatcher, callers: Callers, clock: Clock) -> APIRouter:
    """The router."""
    router = APIRouter()
    router.routes.append(Route("/v1/chat/completions", Chats(dispatcher, callers, clock), methods=["POST"]))

    @router.get("/v1/models")
    async def models(request: Request) -> dict[str, Any]:
        caller = await callers.caller(request, "chat", "operate")
        names = list(dispatcher.engine.names)
        if caller.allows("read"):
            names += sorted(engine_name(digest) for digest in dispatcher.engine.loaded)
        return {"object": "list", "data": [_model(name) for name in names]}

    @router.get("/v1/models/{name}")
    async def model(name: str, request: Request) -> dict[str, Any]:
        found = next((entry for entry in (await models(request))["data"] if entry["id"] == name), None)
        if found is None:
            raise no_model(dispatcher.engine.names)
        return dict(found)

    return router


def _model(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 0, "owned_by": "trimtab"}


class Chats:
    """An ASGI app for one path: bare, for it is asked thousands of times a second."""

    def __init__(self, dispatcher: Dispatcher, callers: Callers, clock: Clock) -> None:
        self._dispatcher, self._callers, self._clock = dispatcher, callers, clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        try:
            caller = await self._callers.caller(request, "chat")
            body = await read_object(request, self._dispatcher.settings.max_request_bytes)
            self._callers.count(request, caller, user_of(body))
            turn = await self._dispatcher.start(caller, body, request.headers.get(HEADER))
        except Exception as error:
            status = error.status if isinstance(error, ApiError) else 500
            metrics.CHAT_REQUESTS.labels(code=status, arm="none").inc()
            raise
        told = Told(turn, caller)
        async with _watched(turn, receive):
            if turn.plan.request.stream:
                await _Stream(told, send, self._clock).tell()
            else:
                response = await _whole(told)
                await response(scope, receive, send)


class Told:
    """A turn, as this caller is told of it."""

    def __init__(self, turn: LiveTurn, caller: Caller) -> None:
        self.turn = turn
        plan, reads = turn.plan, caller.allows("read")
        self._head = {
            "id": plan.turn_id,
            "object": "chat.completion.chunk" if plan.request.stream else "chat.completion",
            "created": plan.started_at_us // 1_000_000,
            "model": plan.request.model,
        }
        self._ours = {"id": plan.turn_id, "system_fingerprint": (plan.adapter or BASE) if reads else FINGERPRINT}
        self.headers = {TURN_HEADER: plan.turn_id, HEADER: header_value(plan.who.conversation_id)}
        if reads:
            self.headers[ADAPTER_HEADER] = plan.adapter or BASE

    def document(self, document: Document) -> Document:
        """One of the engine's documents, with what is ours."""
        return self._head | document | self._ours

    def chunk(self, document: Document) -> bytes | None:
        """A chunk as an event; None where it holds nothing but a usage that was not asked for."""
        if not self.turn.plan.request.include_usage and "usage" in document:
            if not document.get("choices"):
                return None
            if document["usage"] is None:
                document = {name: value for name, value in document.items() if name != "usage"}
        return _event(self.document(document))

    def failed(self, error: ApiError) -> Response:
        """The answer that says so."""
        response = error.response()
        response.headers.update(self.headers)
        return response


async def _whole(told: Told) -> Response:
    documents = [document async for document in told.turn]
    if told.turn.error is not None:
        return told.failed(told.turn.error)
    if told.turn.abandoned or not documents:
        return ApiError(CLIENT_GONE, "client_gone", "the client closed the connection").response()
    return Response(_encode(told.document(documents[0])), headers=told.headers, media_type="application/json")


class _Stream:
    """An answer as server-sent events. What fails before the first of them fails with a status."""

    def __init__(self, told: Told, send: Send, clock: Clock) -> None:
        self._told, self._send, self._clock = told, send, clock
        self._begun = False

    async def tell(self) -> None:
        turn, documents = self._told.turn, aiter(self._told.turn)
        commenting = asyncio.create_task(self._comment())
        try:
            first = await anext(documents, None)
        finally:
            commenting.cancel()
        if first is None and turn.error is not None and not self._begun:
            await self._fail(turn.error)
            return
        if first is not None:
            await self._chunk(first)
        async for document in documents:
            await self._chunk(document)
        # the turn is over and logged here
        await self._say(_event(turn.error.body) if turn.error is not None else b"data: [DONE]\n\n", more=False)

    async def _comment(self) -> None:
        while True:
            await self._clock.sleep(COMMENT_S)
            await self._say(b": waiting for the engine\n\n")

    async def _chunk(self, document: Document) -> None:
        event = self._told.chunk(document)
        if event is not None:
            await self._say(event)

    async def _say(self, event: bytes, *, more: bool = True) -> None:
        if not self._begun:
            self._begun = True
            kind = {"content-type": "text/event-stream; charset=utf-8", "cache-control": "no-cache"}
            headers = kind | {"x-accel-buffering": "no"} | self._told.headers
            raw = [(name.lower().encode(), value.encode("latin-1")) for name, value in headers.items()]
            await self._send({"type": "http.response.start", "status": 200, "headers": raw})
        await self._send({"type": "http.response.body", "body": event, "more_body": more})

    async def _fail(self, error: ApiError) -> None:
        response = self._told.failed(error)
        await self._send(
            {"type": "http.response.start", "status": response.status_code, "headers": response.raw_headers}
        )
        await self._send({"type": "http.response.body", "body": bytes(response.body), "more_body": False})


def _event(document: Document) -> bytes:
    return b"data: " + _encode(document) + b"\n\n"


@asynccontextmanager
async def _watched(turn: LiveTurn, receive: Receive) -> AsyncIterator[None]:
    """Abandon the turn when its client goes, and when this request is cancelled."""
    watching = asyncio.create_task(_abandon_when_gone(turn, receive))
    try:
        yield
    except BaseException:
        turn.abandon()
        raise
    finally:
        watching.cancel()


async def _abandon_when_gone(turn: LiveTurn, receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    turn.abandon()
