"""A real port with a small app behind it, spoken to byte by byte."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from prometheus_client import REGISTRY
from starlette.types import Receive, Scope, Send

from deploy.web.serving import Limits, listen, serve
from tests.fakes import ManualClock, until

GET = b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n"


@dataclass
class Port:
    """A server; its app reads the body and then answers, unless told otherwise."""

    clock: ManualClock = field(default_factory=ManualClock)
    read: bool = True
    """Whether the app reads the body before it answers."""
    go: asyncio.Event = field(default_factory=asyncio.Event)
    """Until this is set it does not answer."""
    body: bytes = b"said"
    asked: int = 0
    received: list[str] = field(default_factory=list)
    taken: int = 0
    """Bytes of bodies."""
    number: int = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        self.asked += 1
        while self.read:
            message = await receive()
            self.received.append(message["type"])
            self.taken += len(message.get("body", b""))
            if not message.get("more_body", False):
                break
        await self.go.wait()
        size = str(len(self.body)).encode()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", size)]})
        await send({"type": "http.response.body", "body": self.body})

    async def open(self) -> Client:
        """A new connection, once the server has it."""
        before = self.connections
        client = await self.dial()
        await until(lambda: self.connections > before, "the server to take the connection")
        return client

    async def dial(self) -> Client:
        """A new connection, taken by the server or not."""
        return Client(*await asyncio.open_connection("127.0.0.1", self.number))

    @property
    def connections(self) -> int:
        """How many the server has."""
        return int(REGISTRY.get_sample_value("trimtab_http_connections", {"port": str(self.number)}) or 0)


@dataclass
class Client:
    """One connection, from the client's side."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def answer(self) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body of the next answer."""
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in head[1:] if line)
        return int(head[0].split(" ")[1]), headers, await self.reader.readexactly(int(headers["content-length"]))

    async def error(self) -> tuple[int, str]:
        """Status and code of an error in OpenAI's shape, after which nothing more comes."""
        status, headers, body = await self.answer()
        error: dict[str, Any] = json.loads(body)["error"]
        assert error.keys() == {"type", "code", "message", "param"}
        assert headers["connection"] == "close"
        assert await self.ended()
        return status, error["code"]

    async def ended(self) -> bool:
        """Whether the server has ended the connection without another byte."""
        try:
            return await self.reader.read() == b""
        except ConnectionResetError:
            return True

    def close(self) -> None:
        self.writer.close()


@asynccontextmanager
async def opened(limits: Limits | None = None, **options: Any) -> AsyncIterator[Port]:
    """A port that answers at once, unless `go` is given."""
    listening, stop = listen("127.0.0.1", 0), asyncio.Event()
    port = Port(number=listening.getsockname()[1], **options)
    if "go" not in options:
        port.go.set()
    serving = asyncio.create_task(serve(port, listening, stop, 1.0, port.clock, limits or Limits()))
    try:
        yield port
    finally:
        port.go.set()
        stop.set()
        await until(lambda: serving.done() or port.clock.waiting > 0)
        while not serving.done():
            await port.clock.advance(1.0)
        await serving
