"""Server-sent events on their way through proxies: not gathered there, and not given up while there is nothing to say yet."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from starlette.types import Message, Send

from feedback.clock import Clock

HEADERS = {"cache-control": "no-cache", "x-accel-buffering": "no"}
"""Of a stream of events; the second one tells nginx, and those who followed it, to pass on each event as it comes."""

QUIET_S = 12.0
"""Shorter than what proxies wait for (15 s and up)."""

COMMENT = b": still here\n\n"


async def came_within(coming: asyncio.Future[Any], clock: Clock, seconds: float = QUIET_S) -> bool:
    """Wait so long for what is to come first; after that the stream should begin, and comments keep it open."""
    came = asyncio.Event()
    coming.add_done_callback(lambda _: came.set())
    return coming.done() or await clock.wait(came, seconds)


@asynccontextmanager
async def kept_open(send: Send, clock: Clock) -> AsyncIterator[Send]:
    """A `send` for a stream of events, in which a comment is said whenever nothing else was for QUIET_S.

    Each message that is sent must hold whole events.
    """
    said = _Said(send)
    beating = asyncio.create_task(said.beat(clock))
    try:
        yield said
    finally:
        beating.cancel()
        await asyncio.gather(beating, return_exceptions=True)


class _Said:
    """Passes messages on, and remembers whether there was one."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._open = self._lately = False

    async def __call__(self, message: Message) -> None:
        self._lately = True
        self._open = message["type"] == "http.response.start" or message.get("more_body", False)
        await self._send(message)

    async def beat(self, clock: Clock) -> None:
        while True:
            self._lately = False
            await clock.sleep(QUIET_S)
            if self._open and not self._lately:
                await self._send({"type": "http.response.body", "body": COMMENT, "more_body": True})
