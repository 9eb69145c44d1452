"""One answer of an engine behind HTTP: its documents as they come, on another address where one fails before the first."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

import aiohttp
import msgspec
import structlog

from deploy.engine.port import ChatRequest, EngineFailed, EngineRefused
from deploy.engine.remote.events import Events, TooLong
from deploy.engine.remote.replicas import Replica, Replicas
from feedback.clock import Clock

MAX_ANSWER_BYTES = 64_000_000
RETRIED = frozenset({429, 500, 502, 503, 504, 529})
"""What another address may do better."""

UNWELL = frozenset({502, 503, 504, 529})
"""What says that the server, not the request, is the trouble."""

KEY_REFUSED = frozenset({401, 403})

log = structlog.get_logger()
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode


@dataclass(frozen=True)
class Patience:
    """How long an engine may be silent, seconds: before its first word, and between two."""

    first_s: float
    next_s: float


class Broken(Exception):
    """An address that did not answer as it should: a sentence for the client; `detail` is for the operator."""

    def __init__(self, said: str, detail: str, status: int = 502, code: str = "engine_failed") -> None:
        super().__init__(said)
        self.detail, self.status, self.code = detail, status, code


class RemoteAnswer:
    """deploy.engine.port.Answer. Nothing is asked before it is iterated over, once."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        replicas: Replicas,
        request: ChatRequest,
        model: str,
        patience: Patience,
        clock: Clock,
        ended: Callable[[], None],
    ) -> None:
        """`model` is what the engine calls who is to answer; the session has the key. `ended` is called at the end."""
        self._session, self._replicas, self._clock = session, replicas, clock
        self._request, self._model, self._patience = request, model, patience
        self._ended, self._cancelled = ended, False
        self._waiting: asyncio.Timeout | None = None

    def cancel(self) -> None:
        """Nobody wants the rest; the engine is told by the end of the connection."""
        self._cancelled = True
        if self._waiting is not None and not self._waiting.expired():
            self._waiting.reschedule(0)

    async def __aiter__(self) -> AsyncIterator[dict[str, Any]]:
        try:
            async for document in self._anywhere():
                yield document
        finally:
            self._ended()

    async def _anywhere(self) -> AsyncIterator[dict[str, Any]]:
        tried: set[str] = set()
        last: Exception = EngineFailed(f"the engine can't be reached: {self._replicas.away}", 503, "not_ready")
        while not self._cancelled and (replica := self._replicas.choose(tried)) is not None:
            tried.add(replica.url)
            told = False
            try:
                async for document in self._asked(replica):
                    told = True
                    yield document
                return
            except Broken as broken:
                if self._cancelled:
                    return
                self._replicas.failed(replica, broken.detail)
                log.error("engine_failed", engine=replica.url, error=broken.detail)
                last = EngineFailed(str(broken), broken.status, broken.code)
            except EngineRefused as refused:
                if refused.status not in RETRIED:
                    raise
                if refused.status in UNWELL:
                    self._replicas.failed(replica, f"it answered {refused.status}")
                last = refused
            if told:
                break
        if not self._cancelled:
            raise last

    async def _asked(self, replica: Replica) -> AsyncIterator[dict[str, Any]]:
        body = dict(self._request.body) | {"model": self._model}
        if self._request.stream:  # what it cost belongs in the log, whether the client asks or not
            body["stream_options"] = (body.get("stream_options") or {}) | {"include_usage": True}
        with self._replicas.asking(replica):
            async with self._post(replica, _encode(body)) as response:
                if response.status != 200:
                    raise await self._refusal(response)
                documents = self._streamed(response) if self._request.stream else self._whole(response)
                async for document in documents:
                    if "error" in document and not document.get("choices"):
                        raise EngineRefused(502, document)
                    self._replicas.answered(replica)
                    yield self._renamed(document)

    @asynccontextmanager
    async def _post(self, replica: Replica, body: bytes) -> AsyncIterator[aiohttp.ClientResponse]:
        try:
            async with self._wait(self._patience.first_s):
                response = await self._session.post(f"{replica.url}/chat/completions", data=body)
        except aiohttp.ClientError as error:
            raise _unreachable(error) from None
        try:
            yield response
        finally:
            response.close() if not response.content.at_eof() else response.release()

    async def _whole(self, response: aiohttp.ClientResponse) -> AsyncIterator[dict[str, Any]]:
        yield _document(await self._all(response))

    async def _streamed(self, response: aiohttp.ClientResponse) -> AsyncIterator[dict[str, Any]]:
        events, first = Events(), True
        while True:
            piece = await self._piece(response, self._patience.first_s if first else self._patience.next_s)
            try:
                complete = events.feed(piece)
            except TooLong as error:
                raise Broken("the engine's answer can't be read", str(error)) from None
            for data in complete:
                if data == b"[DONE]":
                    return
                first = False
                yield _document(data)
            if not piece:
                raise Broken("the engine broke off its answer; try again", "its stream ended without [DONE]")

    async def _all(self, response: aiohttp.ClientResponse) -> bytes:
        pieces, size = [], 0
        while piece := await self._piece(response, self._patience.first_s):
            size += len(piece)
            if size > MAX_ANSWER_BYTES:
                raise Broken("the engine's answer is too long", f"an answer of more than {MAX_ANSWER_BYTES:,} bytes")
            pieces.append(piece)
        return b"".join(pieces)

    async def _piece(self, response: aiohttp.ClientResponse, within_s: float) -> bytes:
        """What comes next; empty at the end."""
        try:
            async with self._wait(within_s):
                return await response.content.readany()
        except aiohttp.ClientError as error:
            raise Broken(
                "the engine broke off its answer; try again", f"{type(error).__name__}: {error}"[:300]
            ) from None

    @asynccontextmanager
    async def _wait(self, within_s: float) -> AsyncIterator[None]:
        try:
            async with self._clock.timeout(within_s) as self._waiting:
                if self._cancelled:
                    self._waiting.reschedule(0)
                yield
        except TimeoutError:
            said = f"the engine said nothing for {within_s:g} s; try again"
            raise Broken(said, f"silent for {within_s:g} s", 504, "engine_timeout") from None
        finally:
            self._waiting = None

    async def _refusal(self, response: aiohttp.ClientResponse) -> Exception:
        body = (await self._all(response))[:1_000_000]
        if response.status in KEY_REFUSED:
            return Broken("the engine does not let this gateway in", f"it refuses our key ({response.status})")
        document: Any = None
        with suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            document = _decode(body)
        if not isinstance(document, dict) or "error" not in document:
            kind = response.headers.get("content-type", "no content type")[:60]
            said = f"the engine answered {response.status}, and not as OpenAI's API does"
            return Broken(said, f"{response.status} with {kind} where an error in JSON was expected")
        return EngineRefused(response.status, document, response.headers.get("retry-after"))

    def _renamed(self, document: dict[str, Any]) -> dict[str, Any]:
        """Where the engine repeats the name that we asked for, the name that the client asked for."""
        return document | {"model": self._request.model} if document.get("model") == self._model else document


def _document(data: bytes) -> dict[str, Any]:
    try:
        document = _decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        start = "HTML" if data.lstrip()[:1] == b"<" else "no JSON"
        raise Broken("the engine's answer can't be read", f"{start} where a JSON object was expected") from None
    if not isinstance(document, dict):
        raise Broken("the engine's answer can't be read", "no JSON object")
    return document


def _unreachable(error: aiohttp.ClientError) -> Broken:
    return Broken("the engine can't be reached; try again", f"{type(error).__name__}: {error}"[:300], 503, "not_ready")
