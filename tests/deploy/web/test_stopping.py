"""A server that is told to stop, on a real port: what has begun may end, what comes is refused, what takes too long is told."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import httpx
from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from starlette.types import ASGIApp

from deploy.web.cors import allow_pages
from deploy.web.serving import listen, serve
from tests.fakes import ManualClock, until

WITHIN_S = 20.0


@dataclass
class Server:
    """A server whose answers wait until told."""

    url: str
    app: FastAPI
    clock: ManualClock = field(default_factory=ManualClock)
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    go: asyncio.Event = field(default_factory=asyncio.Event)
    begun: int = 0

    def __post_init__(self) -> None:
        @self.app.get("/whole")
        async def whole() -> dict[str, str]:
            self.begun += 1
            await self.go.wait()
            return {"said": "all"}

        @self.app.get("/stream")
        async def stream() -> StreamingResponse:
            return StreamingResponse(self._events(), media_type="text/event-stream")

        @self.app.get("/quick")
        async def quick() -> dict[str, str]:
            return {"said": "all"}

    async def _events(self) -> AsyncIterator[bytes]:
        self.begun += 1
        yield b"data: one\n\n"
        await self.go.wait()
        yield b"data: two\n\n"

    def client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(base_url=self.url, timeout=60)


@asynccontextmanager
async def running(around: Callable[[ASGIApp], ASGIApp] = lambda app: app) -> AsyncIterator[Server]:
    listening = listen("127.0.0.1", 0)
    server = Server(f"http://127.0.0.1:{listening.getsockname()[1]}", FastAPI())
    serving = asyncio.create_task(serve(server.app, listening, server.stop, WITHIN_S, server.clock, around=around))
    try:
        yield server
    finally:
        server.stop.set()
        server.go.set()
        await serving


async def is_refusal(answer: httpx.Response) -> bool:
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    error: dict[str, Any] = answer.json()["error"]
    assert error.keys() == {"type", "code", "message", "param"}
    return bool(error["code"] == "stopping")


async def test_what_is_under_way_is_finished_and_what_comes_is_refused() -> None:
    async with running() as server, server.client() as kept, server.client() as client:
        assert (await kept.get("/quick")).status_code == 200
        answers = [asyncio.create_task(client.get(path)) for path in ("/whole", "/stream")]
        await until(lambda: server.begun == 2, "both requests")
        server.stop.set()
        await until(lambda: server.clock.waiting == 1, "the server to wait for them")
        assert await is_refusal(await kept.get("/quick"))  # on its open connection
        async with server.client() as fresh:
            assert await is_refusal(await fresh.get("/quick"))
        server.go.set()
        assert [(await answer).text for answer in answers] == ['{"said":"all"}', "data: one\n\ndata: two\n\n"]


async def test_a_page_may_read_why_it_was_refused() -> None:
    shop = "https://shop.example"
    around = partial(allow_pages, origins=[shop], sent=[], read=[])
    async with running(around) as server, server.client() as kept, server.client() as client:
        assert (await kept.get("/quick")).status_code == 200
        under_way = asyncio.create_task(client.get("/whole"))
        await until(lambda: server.begun == 1, "the request")
        server.stop.set()
        await until(lambda: server.clock.waiting == 1, "the server to wait for it")
        refusal = await kept.get("/quick", headers={"origin": shop})
        assert await is_refusal(refusal)
        assert refusal.headers["access-control-allow-origin"] == shop
        server.go.set()
        await under_way


async def test_what_takes_too_long_is_told_why_it_ends() -> None:
    async with running() as server, server.client() as client:
        whole, stream = [asyncio.create_task(client.get(path)) for path in ("/whole", "/stream")]
        await until(lambda: server.begun == 2, "both requests")
        server.stop.set()
        await until(lambda: server.clock.waiting == 1, "the server to wait for them")
        await server.clock.advance(WITHIN_S)
        assert await is_refusal(await whole)
        one, last = (await stream).text.split("\n\n")[:2]
        assert one == "data: one"
        assert json.loads(last.removeprefix("data: "))["error"]["code"] == "stopping"
