"""One answer of an engine behind HTTP: its documents as they come, on another address where one fails before the first."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AbstractContextManager, suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol

import aiohttp
import msgspec
import structlog
from msgspec import Struct

from deploy.engine.port import ChatRequest, EngineFailed, EngineRefused
from deploy.engine.remote.events import Events, TooLong
from deploy.engine.remote.replicas import Replica, Replicas
from deploy.engine.thread import STOPPING
from feedback.clock import Clock

MAX_ANSWER_BYTES = 64_000_000
MAX_DEPTH = 200
"""Lists and objects within each other in what an engine says: what is copied, redacted and read again later can't be endless."""

RETRIED = frozenset({429, 500, 502, 503, 504, 529})
"""What another address may do better."""

UNWELL = frozenset({502, 503, 504, 529})
"""What says that the server, not the request, is the trouble."""

LINGER_S = 0.05
"""How long after [DONE] the end is waited for."""

KEY_REFUSED = frozenset({401, 403})
TOO_BIG = 413
AWAY = "the engine can't be reached at the moment; try again"

_CODE = re.compile(r"[\w.-]{1,60}")

log = structlog.get_logger()
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode


@dataclass(frozen=True)
class Patience:
    """How long an engine may be silent, seconds: before its first word (or all of it, at once), and between two."""

    first_s: float
    next_s: float


class Broken(Exception):
    """An address that did not answer as it should: a sentence for the client; `detail` is for the operator.

    `status` is what the client is told; `http` what the address answered, where it did.
    """

    def __init__(
        self, said: str, detail: str, status: int = 502, code: str = "engine_failed", http: int | None = None
    ) -> None:
        super().__init__(said)
        self.detail, self.status, self.code, self.http = detail, status, code, http


class Wire(Struct, frozen=True):
    """How a request is put to a server: a JSON object, without its model, to a path; and how its documents are read."""

    path: str
    body: Mapping[str, Any]
    read: Callable[[dict[str, Any]], dict[str, Any]]


class Asker(Protocol):
    """What an answer has to know of its engine; deploy.engine.remote.engine.RemoteEngine."""

    replicas: Replicas

    async def wire(self, address: Replica, model: str, request: ChatRequest) -> Wire: ...

    def model_on(self, address: Replica, adapter: str | None, asked: str) -> str | None: ...
    def asking(self, address: Replica, model: str) -> AbstractContextManager[None]: ...
    def missing(self, address: Replica, model: str) -> bool: ...


class Asked(Struct, frozen=True):
    """What is asked, and the digest of the adapter that is to answer (None: the base). `ended` is called at the end."""

    request: ChatRequest
    adapter: str | None
    ended: Callable[[], None]


class RemoteAnswer:
    """deploy.engine.port.Answer. Nothing is asked before it is iterated over, once."""

    def __init__(
        self, session: aiohttp.ClientSession, engine: Asker, asked: Asked, patience: Patience, clock: Clock
    ) -> None:
        """The session has the key."""
        self._session, self._engine, self._clock = session, engine, clock
        self._asked, self._request, self._patience = asked, asked.request, patience
        self._ended: Callable[[], None] | None = asked.ended
        self._begun = self._cancelled = False
        self._waiting: asyncio.Timeout | None = None

    def cancel(self) -> None:
        """Nobody wants the rest; the engine is told by the end of the connection."""
        self._cancelled = True
        if not self._begun:
            self._end()
        if self._waiting is not None and not self._waiting.expired():
            self._waiting.reschedule(0)

    def _end(self) -> None:
        ended, self._ended = self._ended, None
        if ended is not None:
            ended()

    async def __aiter__(self) -> AsyncIterator[dict[str, Any]]:
        self._begun = True
        tried: set[str] = set()
        told = False
        last: Broken | EngineRefused | None = None
        try:
            while not self._cancelled and (replica := self._engine.replicas.choose(tried, self._able)) is not None:
                tried.add(replica.url)
                model = self._model_on(replica)
                assert model is not None  # it is able
                try:
                    if not self._request.stream:
                        yield await self._whole(replica, model)
                        return
                    async for document in self._streamed(replica, model):
                        told = True
                        yield document
                    return
                except (Broken, EngineRefused) as error:
                    last = self._lost(replica, model, error)
                if self._cancelled:
                    return
                if self._session.closed:
                    raise EngineFailed(STOPPING, 503, "not_ready")
                self._note(replica, last)
                if told or not _may_go_better_elsewhere(last):
                    break
            if not self._cancelled:
                raise _for_client(last)
        finally:
            self._end()

    def _note(self, replica: Replica, error: Broken | EngineRefused) -> None:
        """Tell the operator, and hold against the address what is its fault. No text of an error: it may quote users."""
        if isinstance(error, Broken):
            log.error("engine_failed", engine=replica.url, error=error.detail)
        else:
            log.warning("engine_refused", engine=replica.url, status=error.status, **_code_of(error.body))
        if isinstance(error, Broken) and (error.http is None or error.http in UNWELL | KEY_REFUSED):
            self._engine.replicas.failed(replica, error.detail)
        elif isinstance(error, EngineRefused) and error.status in UNWELL:
            self._engine.replicas.failed(replica, f"it answered {error.status}")

    def _model_on(self, replica: Replica) -> str | None:
        return self._engine.model_on(replica, self._asked.adapter, self._request.model)

    def _able(self, replica: Replica) -> bool:
        return self._model_on(replica) is not None

    def _lost(self, replica: Replica, model: str, error: Broken | EngineRefused) -> Broken | EngineRefused:
        """The same, but where an adapter is not there that was."""
        if isinstance(error, EngineRefused) and error.status == 404 and self._engine.missing(replica, model):
            said = "the engine has just lost this model; try again"
            return Broken(said, f"it has forgotten {model}", 503, "not_ready", http=404)
        return error

    async def _whole(self, replica: Replica, model: str) -> dict[str, Any]:
        with self._engine.asking(replica, model):
            wire = await self._engine.wire(replica, model, self._request)
            async with self._patient(self._patience.first_s):  # for all of it
                response = await self._post(replica, wire, model)
                try:
                    if response.status != 200:
                        raise await self._refusal(response)
                    document = _document(await _all(response))
                finally:
                    _let_go(response)
            if not document.get("choices") and not document.get("error"):
                raise Broken("the engine's answer can't be read", "a JSON object without choices")
            return self._read(replica, wire, model, document)

    async def _streamed(self, replica: Replica, model: str) -> AsyncIterator[dict[str, Any]]:
        with self._engine.asking(replica, model):
            wire = await self._engine.wire(replica, model, self._request)
            until_s = self._clock.monotonic_s() + self._patience.first_s
            async with self._patient(self._patience.first_s):
                response = await self._post(replica, wire, model)
                if response.status != 200:
                    try:
                        raise await self._refusal(response)
                    finally:
                        _let_go(response)
            try:
                async for document in self._events(response, until_s):
                    yield self._read(replica, wire, model, document)
            finally:
                _let_go(response)

    async def _post(self, replica: Replica, wire: Wire, model: str) -> aiohttp.ClientResponse:
        body = dict(wire.body) | {"model": model}
        if self._request.stream:  # what it cost belongs in the log, whether the client asks or not
            body["stream_options"] = (body.get("stream_options") or {}) | {"include_usage": True}
        try:
            return await self._session.post(f"{replica.url}/{wire.path}", data=_encode(body), allow_redirects=False)
        except aiohttp.ClientError as error:  # one of them is a TimeoutError too
            raise Broken("the engine can't be reached; try again", _named(error), 503, "not_ready") from None

    def _read(self, replica: Replica, wire: Wire, model: str, document: dict[str, Any]) -> dict[str, Any]:
        """A document as the client is told it. Raises EngineRefused where it is an error."""
        if document.get("error") and not document.get("choices"):
            raise EngineRefused(_status_of(document["error"]), document)
        self._engine.replicas.answered(replica)
        said = wire.read(document)
        if said.get("model") == model != self._request.model:  # the name that the client asked for
            return said | {"model": self._request.model}
        return said

    async def _events(self, response: aiohttp.ClientResponse, until_s: float) -> AsyncIterator[dict[str, Any]]:
        """The documents of a stream, the first of them by `until_s`, on the clock's monotonic time."""
        events, first, size = Events(), True, 0
        while piece := await self._next(response, until_s if first else None):
            size += len(piece)
            for data in _fed(events, piece, size):
                if data == b"[DONE]":
                    await self._end_of(response)
                    return
                first = False
                yield _document(data)
        if b"[DONE]" in events.feed(b"\n\n"):  # its last line may be missing
            return
        kind = _kind(response)
        if first and kind != "text/event-stream":
            raise Broken("the engine's answer can't be read", f"{kind} where a stream of events was expected")
        raise Broken("the engine broke off its answer; try again", "its stream ended without [DONE]")

    async def _next(self, response: aiohttp.ClientResponse, until_s: float | None) -> bytes:
        """What comes next; empty at the end."""
        if until_s is None:
            within_s, said_s = self._patience.next_s, self._patience.next_s
        else:
            within_s, said_s = until_s - self._clock.monotonic_s(), self._patience.first_s
        async with self._patient(said_s, within_s):
            return await _piece(response)

    async def _end_of(self, response: aiohttp.ClientResponse) -> None:
        """Come to the end of what is complete, where it is near: its connection can then be used again."""
        with suppress(TimeoutError, aiohttp.ClientError):
            async with self._clock.timeout(LINGER_S):
                while await response.content.readany():
                    pass

    def _patient(self, limit_s: float, within_s: float | None = None) -> _Patient:
        """What takes longer than `within_s` (None: the limit) is Broken for having been silent so long."""
        return _Patient(self, limit_s, self._clock.timeout(max(0.0, limit_s if within_s is None else within_s)))

    async def _refusal(self, response: aiohttp.ClientResponse) -> Broken | EngineRefused:
        body, status = (await _all(response))[:1_000_000], response.status
        if status in KEY_REFUSED:
            return Broken("the engine does not let this gateway in", f"it refuses our key ({status})", http=status)
        document: Any = None
        with suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            document = _decoded(body)
        if status < 400 or not isinstance(document, dict) or not document.get("error"):
            said = f"the engine answered {status}, and not as OpenAI's API does"
            told = status if status in RETRIED or status == TOO_BIG else 502
            return Broken(
                said, f"{status} with {_kind(response)} where an error in JSON was expected", told, http=status
            )
        return EngineRefused(status, document, response.headers.get("retry-after"))


class _Patient:
    """A wait of an answer's, which `cancel` ends too. A class, for there are several in each answer: a generator's context
    takes three times as long."""

    def __init__(
        self, answer: RemoteAnswer, limit_s: float, timeout: AbstractAsyncContextManager[asyncio.Timeout]
    ) -> None:
        self._answer, self._limit_s, self._timeout = answer, limit_s, timeout

    async def __aenter__(self) -> None:
        waiting = self._answer._waiting = await self._timeout.__aenter__()
        if self._answer._cancelled:
            waiting.reschedule(0)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._answer._waiting = None
        try:
            await self._timeout.__aexit__(kind, error, trace)
        except TimeoutError:
            said = f"the engine said nothing for {self._limit_s:g} s; try again"
            raise Broken(said, f"silent for {self._limit_s:g} s", 504, "engine_timeout") from None


async def _all(response: aiohttp.ClientResponse) -> bytes:
    pieces, size = [], 0
    while piece := await _piece(response):
        size += len(piece)
        _bounded(size)
        pieces.append(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


async def _piece(response: aiohttp.ClientResponse) -> bytes:
    try:
        return await response.content.readany()
    except aiohttp.ClientError as error:
        raise Broken("the engine broke off its answer; try again", _named(error)) from None


def _let_go(response: aiohttp.ClientResponse) -> None:
    """Its connection may be used again where all of it was read."""
    if response.content.at_eof():
        response.release()
    else:
        response.close()


def _may_go_better_elsewhere(error: Broken | EngineRefused) -> bool:
    return error.status in RETRIED if isinstance(error, EngineRefused) else error.http != TOO_BIG


def _for_client(error: Broken | EngineRefused | None) -> EngineFailed | EngineRefused:
    match error:
        case None:
            return EngineFailed(AWAY, 503, "not_ready")
        case Broken():
            return EngineFailed(str(error), error.status, error.code)
    return error


def _decoded(data: bytes) -> Any:
    """The JSON in it. Raises RecursionError too, and what `_decode` raises."""
    document = _decode(data)
    if data.count(b"{") + data.count(b"[") > MAX_DEPTH:  # else it can't be that deep
        level = [document]
        for _ in range(MAX_DEPTH):
            inner = (one.values() if isinstance(one, dict) else one for one in level)
            level = [value for values in inner for value in values if isinstance(value, dict | list)]
            if not level:
                return document
        raise RecursionError
    return document


def _document(data: bytes) -> dict[str, Any]:
    try:
        document = _decoded(data)
    except RecursionError:
        raise Broken("the engine's answer can't be read", f"JSON nested more than {MAX_DEPTH} deep") from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        start = "HTML" if data.lstrip()[:1] == b"<" else "no JSON"
        raise Broken("the engine's answer can't be read", f"{start} where a JSON object was expected") from None
    if not isinstance(document, dict):
        raise Broken("the engine's answer can't be read", "no JSON object")
    return document


def _fed(events: Events, piece: bytes, size: int) -> list[bytes]:
    _bounded(size)
    try:
        return events.feed(piece)
    except TooLong as error:
        raise Broken("the engine's answer can't be read", str(error)) from None


def _bounded(size: int) -> None:
    if size > MAX_ANSWER_BYTES:
        raise Broken("the engine's answer is too long", f"an answer of more than {MAX_ANSWER_BYTES:,} bytes")


def _kind(response: aiohttp.ClientResponse) -> str:
    return response.headers.get("content-type", "no content type")[:60].partition(";")[0]


def _named(error: aiohttp.ClientError) -> str:
    """For the operator: only what says where a connection failed, for the others quote what was read."""
    where = isinstance(error, aiohttp.ClientConnectorError | aiohttp.ServerTimeoutError)
    return f"{type(error).__name__}: {error}"[:300] if where else type(error).__name__


def _status_of(error: Any) -> int:
    """What an error within a 200 would have been alone."""
    code = error.get("code") if isinstance(error, dict) else None
    return code if isinstance(code, int) and 400 <= code < 600 and code not in KEY_REFUSED else 500


def _code_of(body: Mapping[str, Any]) -> dict[str, str]:
    """An error's code or type, where it is one."""
    error = body["error"] if isinstance(body.get("error"), dict) else {}
    codes = [str(error[name]) for name in ("code", "type") if isinstance(error.get(name), str | int)]
    return next(({"code": code} for code in codes if _CODE.fullmatch(code)), {})
