"""`POST /v1/chat/completions` and `GET /v1/models`, in OpenAI's shape."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from starlette.types import Receive, Scope, Send

from deploy.gateway import metrics
from deploy.gateway.dispatch import Dispatcher
from deploy.gateway.identity import HEADER, header_value
from deploy.gateway.live_turn import LiveTurn
from deploy.web.bodies import json_object, read_body
from deploy.web.callers import Callers
from deploy.web.errors import CLIENT_GONE, ApiError
from models.adapters import engine_name

TURN_HEADER, ADAPTER_HEADER = "X-Trimtab-Turn", "X-Trimtab-Adapter"
BASE = "base"
"""What stands for the bare base where else an adapter's digest would."""


def chat_router(dispatcher: Dispatcher, callers: Callers) -> APIRouter:
    """The router."""
    router = APIRouter()
    settings = dispatcher.settings

    @router.post("/v1/chat/completions")
    async def complete(request: Request) -> Response:
        try:
            caller = await callers.caller(request, "chat")
            body = json_object(await read_body(request, settings.max_request_bytes))
            turn = await dispatcher.start(caller, body, request.headers.get(HEADER))
        except Exception as error:
            status = error.status if isinstance(error, ApiError) else 500
            metrics.CHAT_REQUESTS.labels(code=status, arm="none").inc()
            raise
        return await (_streamed if turn.plan.request.stream else _whole)(turn, request)

    @router.get("/v1/models")
    async def models(request: Request) -> dict[str, Any]:
        caller = await callers.caller(request, "chat", "operate")
        names = [settings.model_alias]
        if caller.allows("operate"):
            names += sorted(engine_name(digest) for digest in dispatcher.engines.loaded)
        return {"object": "list", "data": [_model(name) for name in names]}

    @router.get("/v1/models/{name}")
    async def model(name: str, request: Request) -> dict[str, Any]:
        found = next((entry for entry in (await models(request))["data"] if entry["id"] == name), None)
        if found is None:
            raise ApiError(
                404, "model_not_found", f"there is no model of this name; ask for {settings.model_alias!r}", "model"
            )
        return dict(found)

    return router


def _model(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 0, "owned_by": "trimtab"}


async def _whole(turn: LiveTurn, request: Request) -> Response:
    async with _watched(turn, request):
        text = "".join([piece async for piece in turn])
    if turn.error is not None:
        return _with_headers(turn.error.response(), turn)
    if turn.abandoned:
        return ApiError(CLIENT_GONE, "client_gone", "the client closed the connection").response()
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": text, "refusal": None},
        "logprobs": None,
        "finish_reason": turn.finish_reason,
    }
    body = _common(turn, "chat.completion") | {"choices": [choice], "usage": turn.usage}
    return _with_headers(JSONResponse(body), turn)


async def _streamed(turn: LiveTurn, request: Request) -> Response:
    pieces = aiter(turn)
    async with _watched(turn, request):
        first = await anext(pieces, None)  # what fails before the first piece fails with a status
    if first is None and turn.error is not None:
        return _with_headers(turn.error.response(), turn)
    return _with_headers(_Stream(turn, _events(turn, first, pieces)), turn)


class _Stream(StreamingResponse):
    """Server-sent events; however they end, the turn knows when nobody listens any more."""

    def __init__(self, turn: LiveTurn, events: AsyncIterator[bytes]) -> None:
        super().__init__(events, media_type="text/event-stream", headers={"cache-control": "no-cache"})
        self._turn = turn

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._turn.abandon()


async def _events(turn: LiveTurn, first: str | None, pieces: AsyncIterator[str]) -> AsyncIterator[bytes]:
    yield _delta(turn, {"role": "assistant", "content": ""})
    if first is not None:
        yield _delta(turn, {"content": first})
    async for piece in pieces:
        yield _delta(turn, {"content": piece})
    if turn.error is not None:  # the turn is over and logged here
        yield _event(turn.error.body)
        return
    yield _delta(turn, {}, turn.finish_reason)
    if turn.plan.request.include_usage:
        yield _event(_common(turn, "chat.completion.chunk") | {"choices": [], "usage": turn.usage})
    yield b"data: [DONE]\n\n"


def _delta(turn: LiveTurn, delta: dict[str, Any], finish_reason: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
    usage = {"usage": None} if turn.plan.request.include_usage else {}
    return _event(_common(turn, "chat.completion.chunk") | {"choices": [choice]} | usage)


def _event(document: dict[str, Any]) -> bytes:
    return b"data: " + msgspec.json.encode(document) + b"\n\n"


def _common(turn: LiveTurn, kind: str) -> dict[str, Any]:
    return {
        "id": turn.plan.turn_id,
        "object": kind,
        "created": turn.plan.started_at_us // 1_000_000,
        "model": turn.plan.request.model,
        "system_fingerprint": turn.plan.adapter or BASE,
    }


def _with_headers(response: Response, turn: LiveTurn) -> Response:
    response.headers[TURN_HEADER] = turn.plan.turn_id
    response.headers[HEADER] = header_value(turn.plan.who.conversation_id)
    response.headers[ADAPTER_HEADER] = turn.plan.adapter or BASE
    return response


@asynccontextmanager
async def _watched(turn: LiveTurn, request: Request) -> AsyncIterator[None]:
    """Abandon the turn when its client goes, and when this request is cancelled."""
    watching = asyncio.create_task(_abandon_when_gone(turn, request))
    try:
        yield
    except BaseException:
        turn.abandon()
        raise
    finally:
        watching.cancel()


async def _abandon_when_gone(turn: LiveTurn, request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
    turn.abandon()
