"""The port that a reply comes through: what is asked of an engine, and a reply as an asynchronous stream of text."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from deploy.engine.leases import Lease
from feedback.records import Message
from models.bases import Base

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
    """A reply under way, as models.engine makes it. It has ended when it has a `finish_reason`."""

    prompt_tokens: int
    completion_tokens: int
    finish_reason: FinishReason | None

    def close(self) -> None: ...


class TextEngine(Protocol):
    """What models.engine.LocalEngine offers."""

    base: Base

    @property
    def adapters(self) -> frozenset[str]: ...
    def load_adapter(self, digest: str, path: Path) -> None: ...
    def unload_adapter(self, digest: str) -> None: ...
    def check(self, messages: Sequence[Message], *, max_tokens: int = 256) -> None:
        """Raises models.errors.JobFailed where `generate` would, for messages that the base can't be given."""

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

    def step(self, generations: Sequence[Any]) -> Sequence[str | Exception]:
        """One step of each of these: the text that became certain, often none, or what went wrong with this reply.

        Takes only what `generate` of this engine returned. What it raises itself went wrong with all of them.
        """


class Reply:
    """One reply as an asynchronous stream of text; afterwards it knows how it ended and what it cost.

    It holds a lease on the adapter that it is by (None: the bare base) until the engine has ended it. Iterating raises
    EngineFailed. `cancel` may be called at any time; the stream then ends.
    """

    def __init__(
        self, messages: Sequence[Message], lease: Lease | None, sampling: Sampling, loop: asyncio.AbstractEventLoop
    ) -> None:
        self.messages, self.sampling = messages, sampling
        self.adapter = lease.digest if lease is not None else None
        self.prompt_tokens = self.completion_tokens = 0
        self.finish_reason: FinishReason | None = None
        self.cancelled = threading.Event()
        self._lease, self._loop = lease, loop
        self._pieces: asyncio.Queue[str | Exception | None] = asyncio.Queue()

    def cancel(self) -> None:
        """Nobody wants the rest."""
        self.cancelled.set()

    async def __aiter__(self) -> AsyncIterator[str]:
        while (piece := await self._pieces.get()) is not None:
            if isinstance(piece, Exception):
                raise EngineFailed("the engine failed while it replied") from piece
            yield piece

    def put(self, piece: str) -> None:
        """From the engine's thread: the next piece."""
        self._tell(piece)

    def end(self, error: Exception | None = None) -> None:
        """From the engine's thread, when it is through with this reply: `error` is what went wrong."""
        if self._lease is not None:
            self._lease.release()
        self._tell(error)

    def _tell(self, piece: str | Exception | None) -> None:
        try:
            self._loop.call_soon_threadsafe(self._pieces.put_nowait, piece)
        except RuntimeError:  # the loop is closed: nobody listens any more
            self.cancelled.set()
