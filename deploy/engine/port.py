"""The port that a reply comes through: what the gateway asks of an engine, whichever it is, and what comes back.

What comes back is OpenAI's documents: chunks where a stream was asked for, else one completion. What is ours in them (id,
headers, fingerprint) the gateway puts in.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Protocol, Self

from msgspec import Struct

from deploy.engine.leases import Lease
from feedback.records import Message
from models.bases import Base

FinishReason = Literal["stop", "length"]


class NotReady(Exception):
    """Nothing can be served yet, or any more; the message says why."""


class Overloaded(Exception):
    """As many requests wait as may wait."""


class EngineFailed(Exception):
    """The engine broke while it replied: a sentence for the client. `status` is an HTTP status, `code` one of ours."""

    def __init__(self, said: str, status: int = 500, code: str = "engine_failed") -> None:
        super().__init__(said)
        self.status, self.code = status, code


class EngineRefused(Exception):
    """An engine's own error, to be told as it was said: HTTP status, JSON object, and after how long to try again."""

    def __init__(self, status: int, body: Mapping[str, Any], retry_after: str | None = None) -> None:
        super().__init__(f"the engine answered {status}")
        self.status, self.body, self.retry_after = status, body, retry_after


class Unsupported(Exception):
    """A request that this engine can't answer: a sentence, the parameter at fault, and OpenAI's code for it."""

    def __init__(self, message: str, param: str, code: str = "invalid_value") -> None:
        super().__init__(message)
        self.message, self.param, self.code = message, param, code


class ChatRequest(Struct, frozen=True):
    """What a chat request asks for. `body` is all of it, as it was sent."""

    model: str
    messages: list[Message]
    stream: bool
    include_usage: bool
    n: int
    body: Mapping[str, Any]


class Answer(Protocol):
    """An answer under way. Iterating gives its documents, and raises EngineFailed, EngineRefused.

    It holds the adapter that it is by until it has ended. `cancel` may be called at any time; the stream then ends.
    """

    def cancel(self) -> None: ...
    def __aiter__(self) -> AsyncIterator[dict[str, Any]]: ...


class Place(Protocol):
    """A request's place in the line for the engine, kept from before anything is decided until its reply begins.

    Who gets no place is refused before anything about the request is remembered. Used by one coroutine, as a context:
    leaving it gives back what no answer has taken over.
    """

    async def hold(self, digest: str, *, by_name: bool = False) -> bool:
        """Whether this adapter is there to answer; if so it stays until the answer has ended.

        It is loaded where need be. `by_name`: it was asked for by name, and stays for a while after that too.
        """

    async def check(self, request: ChatRequest) -> None:
        """Raises Unsupported when the engine can't answer this request, whatever adapter is to."""

    def begin(self, request: ChatRequest) -> Answer:
        """The answer of the adapter that is held, or of the bare base. Raises NotReady when the gateway is stopping."""

    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class Engine(Protocol):
    """What serves. `start` it, `stop` it."""

    @property
    def loaded(self) -> frozenset[str]:
        """Digests of the adapters that can answer at once."""

    @property
    def names(self) -> Sequence[str]:
        """The names of models that clients may ask for."""

    def base(self, model: str) -> str:
        """What answers where a client asks for `model`, one of `names` or an adapter's, and no adapter does."""

    def why_not(self, digest: str) -> str | None:
        """Why this adapter could not be loaded when that was tried last; None where nothing is known to be wrong."""

    def ready(self) -> str | None:
        """None when requests can be answered, else a sentence on what is missing."""

    @property
    def idle(self) -> bool:
        """Whether less than half of what it does at once is under way: there is room for what nobody waits for."""

    async def start(self) -> None: ...
    def admit(self) -> Place:
        """A place in the line for one request: use it as a context. Raises NotReady, Overloaded."""

    def drain(self) -> None:
        """End with NotReady what has not begun, and begin nothing more; what has begun goes on."""

    async def stop(self) -> None:
        """End what is under way with an error."""


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
    """One reply of the local engine as an asynchronous stream of text; afterwards it knows how it ended and what it cost.

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
                raise EngineFailed("the engine failed while it replied; try again") from piece
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
