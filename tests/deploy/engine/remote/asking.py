"""What the tests of the remote engine share: an engine, and how it is asked."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from structlog.testing import capture_logs

from deploy.engine.port import ChatRequest, EngineFailed, EngineRefused
from deploy.engine.remote.answer import Patience
from deploy.engine.remote.engine import RemoteEngine
from feedback.clock import Clock
from tests.fakes import CLOCK
from tests.openai_server import MODEL

HELLO: Any = [{"role": "user", "content": "my secret is mauve"}]
KEY = "sk-of-the-operator"


@asynccontextmanager
async def remote(
    *urls: str, limit: int = 100, clock: Clock = CLOCK, key: str | None = KEY
) -> AsyncIterator[RemoteEngine]:
    """An engine on these addresses, where a word may take a minute to come."""
    engine = RemoteEngine(urls, {"trimtab": MODEL, "small": "small-model"}, key, Patience(60, 30), limit, clock)
    await engine.start()
    try:
        yield engine
    finally:
        await engine.stop()


def request(model: str = "trimtab", **more: Any) -> ChatRequest:
    body = {"model": model, "messages": HELLO, **more}
    return ChatRequest(model, HELLO, bool(more.get("stream")), False, more.get("n", 1), body)


async def documents(engine: RemoteEngine, asked: ChatRequest | None = None) -> list[dict[str, Any]]:
    with engine.admit() as place:
        answer = place.begin(asked or request())
    return [document async for document in answer]


def text(told: list[dict[str, Any]]) -> str:
    """Of the first choice."""
    pieces = [document["choices"][0] for document in told if document["choices"]]
    return "".join((piece.get("delta") or piece.get("message") or {}).get("content") or "" for piece in pieces)


async def failure(engine: RemoteEngine, asked: Any = None) -> tuple[Exception, list[Any], list[Any]]:
    """How it fails, what was told until then, and the operator's lines."""
    told: list[Any] = []
    with capture_logs() as lines, engine.admit() as place:
        answer = place.begin(asked or request(stream=True))

        async def listen() -> None:
            async for document in answer:
                told.append(document)

        with pytest.raises((EngineFailed, EngineRefused)) as raised:
            await listen()
    return raised.value, told, lines
