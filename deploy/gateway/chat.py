"""`POST /v1/chat/completions` and `GET /v1/models`, in OpenAI's shape.

An engine's documents are told as they come. Ours in them are the id, the fingerprint, and what it left out; which adapter
answered is told to nobody but who may read it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import msgspec
from fastapi import APIRouter, Request
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from deploy.gateway import metrics
from deploy.gateway.dispatch import Dispatcher, no_model
from deploy.gateway.identity import HEADER, header_value, user_of
from deploy.gateway.live_turn import Document, LiveTurn
from deploy.web.bodies import read_object
from deploy.web.callers import Caller, Callers
from deploy.web.errors import CLIENT_GONE, ApiError, answered
from deploy.web.headers import header
from deploy.web.pace import LATE
from feedback.clock import Clock
from models.adapters import engine_name

PATH = "/v1/chat/completions"
TURN_HEADER, ADAPTER_HEADER = "X-Trimtab-Turn", "X-Trimtab-Adapter"
BASE = "base"
"""What stands for the bare base where else an adapter's digest would."""

FINGERPRINT = "trimtab"
"""What stands there for whoever may not know who answered."""

COMMENT_S = 10.0
"""How often a stream that has nothing to tell yet says that it is alive: proxies cut what is silent."""

WATCHED_AFTER_S = 0.05
"""An answer that is quicker is not worth a task that looks whether its client is still there."""

_TURN, _CONVERSATION, _ADAPTER = (name.lower().encode() for name in (TURN_HEADER, HEADER, ADAPTER_HEADER))
_JSON = [(b"content-type", b"application/json")]
_EVENTS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
]
_encode = msgspec.json.Encoder().encode


def chat_router(dispatcher: Dispatcher, callers: Callers, chats: Chats) -> APIRouter:
    """The router."""
    router = APIRouter()
    router.routes.append(Route(PATH, chats, methods=["POST"]))

    @router.get("/v1/models")
    async def models(request: Request) -> dict[str, Any]:
        caller = await callers.caller(request, "chat", "operate")
        callers.count(request, caller)
        names = list(dispatcher.engine.names)
        if caller.allows("read") and not caller.bound:
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
        try:
            told = await self._begun(Request(scope, receive))
        except Exception as error:
            refusal = answered(error, scope["path"])
            metrics.chat_requests(refusal.status_code, "none").inc()
            await refusal(scope, receive, send)
            return
        if (kept := scope.get(LATE)) is not None:
            kept.at_once = True  # what an engine refuses is not the sender's fault
        with _Watched(told.turn, receive):
            if told.turn.plan.request.stream:
                await _Stream(told, send, self._clock).tell()
            else:
                await _tell_whole(told, send)

    async def _begun(self, request: Request) -> Told:
        caller = await self._callers.caller(request, "chat")
        body = await read_object(request, self._dispatcher.settings.max_request_bytes)
        self._callers.count(request, caller, user_of(body))
        return Told(await self._dispatcher.start(caller, body, header(request.scope, _CONVERSATION)), caller)


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
        self.headers = [
            (_TURN, plan.turn_id.encode()),
            (_CONVERSATION, header_value(plan.who.conversation_id).encode()),
        ]
        if reads:
            self.headers.append((_ADAPTER, (plan.adapter or BASE).encode()))

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

    async def say(self, send: Send, status: int, headers: Sequence[tuple[bytes, bytes]], body: bytes) -> None:
        """A whole answer."""
        length = (b"content-length", str(len(body)).encode())
        start = {"type": "http.response.start", "status": status, "headers": [*headers, length, *self.headers]}
        await send(start)
        await send({"type": "http.response.body", "body": body, "more_body": False})

    async def fail(self, send: Send, error: ApiError) -> None:
        """The answer that says why there is none."""
        response = error.response()
        headers = [(name, value) for name, value in response.raw_headers if name != b"content-length"]
        await self.say(send, response.status_code, headers, bytes(response.body))


async def _tell_whole(told: Told, send: Send) -> None:
    documents = await told.turn.news()
    if told.turn.error is not None:
        await told.fail(send, told.turn.error)
    elif told.turn.abandoned or not documents:
        await told.fail(send, ApiError(CLIENT_GONE, "client_gone", "the client closed the connection"))
    else:
        await told.say(send, 200, _JSON, _encode(told.document(documents[0])))


class _Stream:
    """An answer as server-sent events. What fails before the first of them fails with a status."""

    def __init__(self, told: Told, send: Send, clock: Clock) -> None:
        self._told, self._send, self._clock = told, send, clock
        self._begun = False

    async def tell(self) -> None:
        turn = self._told.turn
        commenting = asyncio.create_task(self._comment())
        try:
            documents = await turn.news()
        finally:
            commenting.cancel()
        if not documents and turn.error is not None and not self._begun:
            await self._told.fail(self._send, turn.error)
            return
        while documents:
            events = [event for document in documents if (event := self._told.chunk(document)) is not None]
            if events:
                await self._say(b"".join(events))
            documents = await turn.news()
        # the turn is over and logged here
        await self._say(_event(turn.error.body) if turn.error is not None else b"data: [DONE]\n\n", more=False)

    async def _comment(self) -> None:
        while True:
            await self._clock.sleep(COMMENT_S)
            await self._say(b": waiting for the engine\n\n")

    async def _say(self, event: bytes, *, more: bool = True) -> None:
        if not self._begun:
            headers = [*_EVENTS, *self._told.headers]
            await self._send({"type": "http.response.start", "status": 200, "headers": headers})
            self._begun = True  # not before: a comment may be given up while it waits for room
        await self._send({"type": "http.response.body", "body": event, "more_body": more})


def _event(document: Document) -> bytes:
    return b"data: " + _encode(document) + b"\n\n"


class _Watched:
    """Abandons the turn when its client goes, and when this request is cancelled."""

    def __init__(self, turn: LiveTurn, receive: Receive) -> None:
        self._turn, self._receive = turn, receive
        self._watching: asyncio.Task[None] | None = None

    def __enter__(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(WATCHED_AFTER_S, self._watch)

    def __exit__(self, kind: type[BaseException] | None, _: object, __: object) -> None:
        self._timer.cancel()
        if self._watching is not None:
            self._watching.cancel()
        if kind is not None:
            self._turn.abandon()

    def _watch(self) -> None:
        self._watching = asyncio.create_task(self._abandon_when_gone())

    async def _abandon_when_gone(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._turn.abandon()
