"""A plain OpenAI-compatible server on a port of its own: what it answers is scripted, what it was asked it remembers.

Without a script it answers as a well-behaved server would: always the same to the same question.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

from aiohttp import web

MODEL = "big-model-2026"
Body = dict[str, Any]
Script = Callable[[web.Request, Body], Awaitable[web.StreamResponse]]


@dataclass
class Asked:
    """One request, from a port. `gone` is set when its client ended it before the answer was complete."""

    body: Body
    headers: dict[str, str]
    port: int
    gone: asyncio.Event = field(default_factory=asyncio.Event)


class OpenAIServer:
    """Made by `openai_server`. `key`: whoever has another is refused."""

    def __init__(self, key: str | None = None) -> None:
        self.key, self.url = key, ""
        self.asked: list[Asked] = []
        self.always: Script = polite
        self._next: deque[Script] = deque()

    def then(self, *scripts: Script) -> None:
        """What the next requests are answered with, one each; `always` is for all others."""
        self._next.extend(scripts)

    @property
    def bodies(self) -> list[Body]:
        """What it was asked."""
        return [asked.body for asked in self.asked]

    async def handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        assert request.transport is not None
        port = request.transport.get_extra_info("peername")[1]
        self.asked.append(asked := Asked(body, dict(request.headers), port))
        if self.key is not None and request.headers.get("authorization") != f"Bearer {self.key}":
            return await error(401, "Incorrect API key provided: sk-not-yours.", "invalid_api_key")(request, body)
        script = self._next.popleft() if self._next else self.always
        try:
            return await script(request, body)
        except asyncio.CancelledError:
            asked.gone.set()
            raise


@asynccontextmanager
async def openai_server(key: str | None = None) -> AsyncIterator[OpenAIServer]:
    """A running server."""
    server = OpenAIServer(key)
    app = web.Application(client_max_size=64_000_000)
    app.router.add_post("/v1/chat/completions", server.handle)
    runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    server.url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
    try:
        yield server
    finally:
        await runner.cleanup()


# what may be scripted


async def polite(request: web.Request, body: Body) -> web.StreamResponse:
    """A right answer to what was asked."""
    if not body.get("stream"):
        return await whole(completion(body))(request, body)
    return await streaming(*chunks(body))(request, body)


def whole(document: Any, status: int = 200, **headers: str) -> Script:
    """This JSON document."""
    return raw(json.dumps(document).encode(), "application/json", status, **headers)


def raw(content: bytes, kind: str = "text/html", status: int = 200, **headers: str) -> Script:
    """These bytes."""

    async def answer(request: web.Request, body: Body) -> web.StreamResponse:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return web.Response(body=content, status=status, headers={"content-type": kind, **named})

    return answer


def error(status: int, message: str, code: str | None = None, **headers: str) -> Script:
    """An error in OpenAI's shape."""
    return whole(
        {"error": {"message": message, "type": "invalid_request_error", "param": None, "code": code}}, status, **headers
    )


def streaming(
    *events: Body | bytes, done: bool = True, end: Literal["whole", "cut", "silent"] = "whole", comment: bytes = b""
) -> Script:
    """These events (bytes: as they are), then [DONE]; then the end, a cut connection, or nothing more."""

    async def answer(request: web.Request, body: Body) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        for event in events:
            await response.write(comment + (event if isinstance(event, bytes) else as_event(event)))
        if done and end == "whole":
            await response.write(b"data: [DONE]\n\n")
            for _ in range(20):  # what ends the answer comes a moment later, as many servers have it
                await asyncio.sleep(0)
        if end == "silent":
            await asyncio.Event().wait()
        if end == "cut":
            assert request.transport is not None
            request.transport.close()
        return response

    return answer


async def silence(request: web.Request, body: Body) -> web.StreamResponse:
    """Not a word, until the client goes."""
    await asyncio.Event().wait()
    raise AssertionError


async def cut(request: web.Request, body: Body) -> web.StreamResponse:
    """The connection ends before a word is said."""
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


def as_event(document: Body) -> bytes:
    return b"data: " + json.dumps(document).encode() + b"\n\n"


# a right answer

USAGE = {
    "prompt_tokens": 19,
    "completion_tokens": 10,
    "total_tokens": 29,
    "prompt_tokens_details": {"cached_tokens": 16, "audio_tokens": 0},
    "completion_tokens_details": {"reasoning_tokens": 3, "accepted_prediction_tokens": 0},
    "x_cost": {"usd": 0.0001},
}


def completion(body: Body) -> Body:
    """The whole answer to `body`, with fields that nobody has heard of."""
    choices = [
        {
            "index": index,
            "message": _message(body, index),
            "logprobs": _logprobs(_message(body, index)) if body.get("logprobs") else None,
            "finish_reason": "tool_calls" if body.get("tools") else "stop",
            "x_stop_token": None,
        }
        for index in range(body.get("n") or 1)
    ]
    return _head(body, "chat.completion") | {"choices": choices, "usage": USAGE}


def chunks(body: Body) -> Iterator[Body]:
    """The same, piece by piece; the choices take turns."""
    usage = bool((body.get("stream_options") or {}).get("include_usage"))
    head = _head(body, "chat.completion.chunk") | ({"usage": None} if usage else {})
    choices = completion(body)["choices"]
    deltas = [list(_deltas(choice["message"])) for choice in choices]
    for place in range(max(map(len, deltas))):
        for choice, pieces in zip(choices, deltas, strict=True):
            if place < len(pieces):
                logprobs = _logprobs(pieces[place]) if choice["logprobs"] and pieces[place].get("content") else None
                told = {"index": choice["index"], "delta": pieces[place], "logprobs": logprobs, "finish_reason": None}
                yield head | {"choices": [told], "obfuscation": "x9"}
    for choice in choices:
        told = {"index": choice["index"], "delta": {}, "logprobs": None, "finish_reason": choice["finish_reason"]}
        yield head | {"choices": [told]}
    if usage:
        yield head | {"choices": [], "usage": USAGE}


def _head(body: Body, kind: str) -> Body:
    return {
        "id": "chatcmpl-theirs",
        "object": kind,
        "created": 1_700_000_000,
        "model": body["model"],
        "service_tier": "default",
        "system_fingerprint": "fp_theirs",
        "x_unknown": {"deep": [1, None, {"a": "ünï"}]},
    }


def _message(body: Body, index: int) -> Body:
    message: Body = {"role": "assistant", "content": _text(body, index), "refusal": None, "annotations": []}
    if body.get("tools"):
        name = body["tools"][0]["function"]["name"]
        message["content"] = None
        message["tool_calls"] = [
            {"id": f"call_{index}_{n}", "type": "function", "function": {"name": name, "arguments": arguments}}
            for n, arguments in enumerate(('{"city": "Graz"}', '{"city": "Wörgl", "days": [1, 2]}'))
        ]
    return message


def _text(body: Body, index: int) -> str:
    if (body.get("response_format") or {}).get("type") == "json_schema":
        return '{"city": "Graz", "celsius": 21.5}'
    parts = [part for message in body["messages"] for part in message["content"] or () if isinstance(part, dict)]
    images = [part["image_url"]["url"] for part in parts if part["type"] == "image_url"]
    if images:
        return f"I see {len(images)} pictures of {sum(map(len, images))} characters."
    return f"Grüß Gott, I am number {index}."


def _deltas(message: Body) -> Iterator[Body]:
    yield {"role": "assistant", "content": "" if message["content"] is not None else None, "refusal": None}
    for start in range(0, len(message["content"] or ""), 3):
        yield {"content": message["content"][start : start + 3]}
    for index, call in enumerate(message.get("tool_calls", ())):
        function = call["function"]
        yield {"tool_calls": [call | {"index": index, "function": function | {"arguments": ""}}]}
        for start in range(0, len(function["arguments"]), 5):
            piece = {"arguments": function["arguments"][start : start + 5]}
            yield {"tool_calls": [{"index": index, "function": piece}]}


def _logprobs(message: Body) -> Body:
    def token(text: str) -> Body:
        return {"token": text, "logprob": -0.25, "bytes": list(text.encode())}

    text = message["content"] or ""
    pieces = [text[start : start + 3] for start in range(0, len(text), 3)]
    return {
        "content": [token(piece) | {"top_logprobs": [token(piece), token("?")]} for piece in pieces],
        "refusal": None,
    }
