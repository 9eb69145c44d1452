"""The engine's thread: it takes turns among the replies under way, one piece of each at a time; the rest waits in line.

A reply comes out as an asynchronous stream, so that the event loop never waits for the model.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from feedback.records import Message
from models.bases import Base

PARALLEL = 8
"""Replies that take turns in the engine; each has a cache of its own in memory."""

FinishReason = Literal["stop", "length"]


class NotReady(Exception):
    """Nothing can be served yet, or any more; the message says why."""


class Overloaded(Exception):
    """As many requests wait as may wait."""


class EngineFailed(Exception):
    """The engine broke while it replied."""


@dataclass(frozen=True)
class Sampling:
    """How a reply is sampled."""

    max_tokens: int
    temperature: float = 1.0
    top_p: float = 1.0
    seed: int | None = None
    stop: tuple[str, ...] = ()


class Generation(Protocol):
    """A reply under way, as models.engine makes it."""

    prompt_tokens: int
    completion_tokens: int
    finish_reason: FinishReason | None

    def __iter__(self) -> Iterator[str]: ...
    def __next__(self) -> str: ...
    def close(self) -> None: ...


class TextEngine(Protocol):
    """What models.engine.LocalEngine offers."""

    base: Base

    @property
    def adapters(self) -> frozenset[str]: ...
    def load_adapter(self, digest: str, path: Path) -> None: ...
    def unload_adapter(self, digest: str) -> None: ...
    def generate(
        self,
        messages: Sequence[Message],
        adapter: str | None = None,
        *,
        max_tokens: int = 256,
        temperature: float = 1.0,
        top_p: float = 1.0,
        seed: int | None = None,
        stop: Sequence[str] = (),
    ) -> Generation: ...


class Reply:
    """One reply as an asynchronous stream of text; afterwards it knows how it ended and what it cost.

    Iterating raises EngineFailed. `cancel` may be called at any time; the stream then ends.
    """

    def __init__(
        self, messages: Sequence[Message], adapter: str | None, sampling: Sampling, loop: asyncio.AbstractEventLoop
    ) -> None:
        self.messages, self.adapter, self.sampling = messages, adapter, sampling
        self.prompt_tokens = self.completion_tokens = 0
        self.finish_reason: FinishReason | None = None
        self.cancelled = threading.Event()
        self._loop = loop
        self._pieces: asyncio.Queue[str | Exception | None] = asyncio.Queue()

    def cancel(self) -> None:
        """Nobody wants the rest."""
        self.cancelled.set()

    async def __aiter__(self) -> AsyncIterator[str]:
        while (piece := await self._pieces.get()) is not None:
            if isinstance(piece, Exception):
                raise EngineFailed("the engine failed while it replied") from piece
            yield piece

    def put(self, piece: str | Exception | None) -> None:
        """From the engine's thread: the next piece, what went wrong, or None for the end."""
        try:
            self._loop.call_soon_threadsafe(self._pieces.put_nowait, piece)
        except RuntimeError:  # the loop is closed: nobody listens any more
            self.cancelled.set()


class EngineThread:
    """Runs replies on an engine; at most `limit` wait their turn."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._waiting: deque[Reply] = deque()
        self._changed = threading.Condition()
        self._stopping = False
        self._thread: threading.Thread | None = None

    def start(self, engine: TextEngine) -> None:
        """Begin with what waits."""
        self._thread = threading.Thread(target=self._run, args=(engine,), name="engine", daemon=True)
        self._thread.start()

    def put(self, reply: Reply) -> None:
        """Get in line. Raises NotReady, Overloaded."""
        with self._changed:
            if self._stopping:
                raise NotReady("the gateway is stopping")
            if len(self._waiting) >= self._limit:
                raise Overloaded(f"{self._limit} requests are waiting for the engine")
            self._waiting.append(reply)
            self._changed.notify()

    def waiting_for(self) -> frozenset[str]:
        """Digests of the adapters that replies in the line are to have."""
        with self._changed:
            return frozenset(reply.adapter for reply in self._waiting if reply.adapter is not None)

    def stop(self) -> None:
        """End every reply with NotReady, and the thread."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join()

    def _run(self, engine: TextEngine) -> None:
        active: deque[tuple[Reply, Generation]] = deque()
        while self._take(engine, active):
            reply, generation = active.popleft()
            if _advance(reply, generation):
                active.append((reply, generation))
        for reply, generation in active:
            generation.close()
            reply.put(NotReady("the gateway is stopping"))
        for reply in self._waiting:
            reply.put(NotReady("the gateway is stopping"))

    def _take(self, engine: TextEngine, active: deque[tuple[Reply, Generation]]) -> bool:
        """Start what waits while there is room; False when it is time to stop."""
        while True:
            with self._changed:
                while not self._stopping and not self._waiting and not active:
                    self._changed.wait()
                if self._stopping:
                    return False
                if not self._waiting or len(active) >= PARALLEL:
                    return True
                reply = self._waiting.popleft()
            if (generation := _begin(engine, reply)) is not None:
                active.append((reply, generation))


def _begin(engine: TextEngine, reply: Reply) -> Generation | None:
    if reply.cancelled.is_set():
        reply.put(None)
        return None
    how = reply.sampling
    try:
        generation = engine.generate(
            reply.messages,
            reply.adapter,
            max_tokens=how.max_tokens,
            temperature=how.temperature,
            top_p=how.top_p,
            seed=how.seed,
            stop=how.stop,
        )
    except Exception as error:  # the reply carries it to whoever waits
        reply.put(error)
        return None
    reply.prompt_tokens = generation.prompt_tokens
    return generation


def _advance(reply: Reply, generation: Generation) -> bool:
    """One piece further; False at the end."""
    try:
        piece = None if reply.cancelled.is_set() else next(generation, None)
        reply.completion_tokens, reply.finish_reason = generation.completion_tokens, generation.finish_reason
        if piece is None:
            generation.close()
        reply.put(piece)
        return piece is not None
    except Exception as error:  # the reply carries it to whoever waits
        reply.put(error)
        return False
