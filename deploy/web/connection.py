"""A client's connection: uvicorn's, with deadlines for what the client sends and takes, and errors in OpenAI's shape.

Slow clients cost: each holds a connection, and there is a limit on those. So a header has to be complete within HEADER_S, a
body has to come at BODY_FLOOR a second once it takes longer than BODY_S, and an answer has to be read now and then. Whoever
breaks this off by us is told why where that is possible, and counted.
"""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import Any, Literal, Protocol

import httptools
import msgspec
import uvicorn
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from deploy.web import metrics
from deploy.web.errors import ApiError
from deploy.web.pace import Late
from feedback.clock import Clock

HEADER_S = 20.0
BODY_S = 30.0
BODY_FLOOR = 50_000
"""Bytes a second."""

STALLED_S = 60.0
"""How long a client may leave unread what waits for it."""

UNUSED_S = 2.0
"""A connection without a request yet is closed to make room only after this: its first bytes may be on their way."""

LINGER_S = 2.0
"""How long somebody who was turned away may go on sending, so that the answer is read and not lost with the connection."""

PACED_BYTES, PAUSE_S = 1_000_000, 0.005
"""Of a body beyond so many bytes, and of all that nobody reads any more, one piece (a quarter of a megabyte at most) is taken
in so many seconds: ten megabytes at once would hold up those who chat."""

MAX_HEADER_BYTES, MAX_HEADERS = 65_536, 300
MAX_AHEAD = 20
"""Requests sent before the one under way is answered. Nobody's client does; a quarter of a megabyte has ten thousand."""

MAX_CHUNKS, SMALLEST_CHUNK = 1_000, 32
"""So many chunks of a body may be small ones."""

CHUNKS_AT_ONCE = 300
"""So many chunks are parsed, then comes a pause: a millisecond's work, in which no other thread of this process gets on."""

HEADER_PIECE, BODY_PIECE, CHUNKED_PIECE = 4_096, 32_768, 2_048
"""Bytes that are parsed before it is looked whether it is too much: each header, request or chunk costs far more than its bytes.
The last is for a body whose chunks have less than LARGE_CHUNK bytes on average."""

LARGE_CHUNK = 1_024

RETRY_S = 5

Phase = Literal["header", "body", "kept waiting", "turned away", "closing"]
_ALLOWED_S: dict[Phase, float] = {
    "header": HEADER_S,
    "body": BODY_S,
    "kept waiting": STALLED_S,
    "turned away": LINGER_S,
    "closing": STALLED_S,
}
_OVER = ("kept waiting", "turned away", "closing")
"""Of such a client nothing is parsed any more."""


class Clients(Protocol):
    """Who keeps count of connections; deploy.web.accepting.Acceptor is one."""

    def idle(self, connection: Connection) -> None:
        """It waits for a request: it may be closed to make room."""

    def busy(self, connection: Connection) -> None: ...

    def lost(self, connection: Connection) -> None: ...


class _Flow(FlowControl):
    """Uvicorn's, for a connection that may rest: the app that wants more has to wait until the pause is over."""

    resting = False

    def resume_reading(self) -> None:
        if self.resting:
            self.read_paused = False
        else:
            super().resume_reading()


class Connection(HttpToolsProtocol):
    """One connection. `crowded`: there are too many, whatever is asked is refused."""

    flow: _Flow

    def __init__(
        self,
        config: uvicorn.Config,
        state: ServerState,
        app_state: dict[str, Any],
        clients: Clients,
        clock: Clock,
        late: Late,
        *,
        crowded: bool,
    ) -> None:
        super().__init__(config, state, app_state)
        if crowded:
            self.app = too_many
        self._clients, self._clock, self._late_answers = clients, clock, late
        self._phase: Phase | None = None
        """What the client is at; None: it waits for an answer, or we for a request."""
        self._since_s = 0.0
        self._bytes = self._chunks = 0
        self._held, self._chunks_at_once = b"", 0
        """What has come and is not parsed yet, and the chunks that were parsed since the last pause."""
        self._stalled_s: float | None = None
        self._late = False
        self._telling: asyncio.Task[None] | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self.flow = _Flow(transport)
        self._begin("header")

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._clients.lost(self)
        self._held = b""
        if self._telling is not None:
            self._telling.cancel()

    def data_received(self, data: bytes) -> None:
        if self._phase in ("kept waiting", "turned away"):
            self._pause()
            return
        if self._phase is None:
            if not data.strip(b"\r\n"):  # old clients end a body so; it is no reason to wait for them any longer
                return
            self._begin("header")
        self._clients.busy(self)
        self._held += data
        self._feed_held()

    def _feed_held(self) -> None:
        data, at, self._chunks_at_once = self._held, 0, 0
        while at < len(data) and self._phase not in _OVER and not self.transport.is_closing():
            if self._chunks_at_once >= CHUNKS_AT_ONCE:
                self._pause()
                break
            size = self._piece()
            self._feed(data[at : at + size])
            at += size
        self._held = data[at:]

    def _piece(self) -> int:
        if self._phase != "body":
            return HEADER_PIECE
        return CHUNKED_PIECE if self._bytes < LARGE_CHUNK * self._chunks else BODY_PIECE

    def _feed(self, piece: bytes) -> None:
        if self._phase == "header":
            self._bytes += len(piece)
        super().data_received(piece)
        if self._phase == "header" and self._bytes > MAX_HEADER_BYTES:
            message = f"the header has more than {MAX_HEADER_BYTES} bytes"
            self._turn_away("invalid", ApiError(431, "header_too_large", message))
        elif self._phase == "header" and len(self.headers) > MAX_HEADERS:
            message = f"the header has more than {MAX_HEADERS} lines"
            self._turn_away("invalid", ApiError(431, "header_too_large", message))
        elif self._phase == "body" and self._chunks > MAX_CHUNKS and self._bytes < SMALLEST_CHUNK * self._chunks:
            message = f"the body comes in chunks of less than {SMALLEST_CHUNK} bytes: send it whole, or in larger ones"
            self._turn_away("invalid", ApiError(400, "chunks_too_small", message))

    def on_chunk_header(self) -> None:
        self._chunks += 1
        self._chunks_at_once += 1

    def on_message_begin(self) -> None:
        if len(self.pipeline) > MAX_AHEAD:  # not one more is parsed; it is cut off, as others' answers are under way
            raise httptools.HttpParserError
        super().on_message_begin()
        if self._phase != "header":
            self._begin("header")

    def on_headers_complete(self) -> None:
        super().on_headers_complete()
        self._begin("body")

    def on_body(self, body: bytes) -> None:
        self._bytes += len(body)
        super().on_body(body)
        if self._bytes > PACED_BYTES or self.cycle.response_complete:
            self._pause()

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._phase = None
        if self.cycle.response_complete:  # it was answered before it was read; uvicorn waits no longer for the next one
            self._unset_keepalive_if_required()
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )
            self._clients.idle(self)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self._phase is None and not self.pipeline:
            self._clients.idle(self)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._stalled_s = self._clock.monotonic_s()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._stalled_s = None

    def send_400_response(self, msg: str) -> None:
        message = (
            "this is no HTTP/1.1 request that can be read; does the client speak https to a port that speaks http?"
        )
        self._turn_away("invalid", ApiError(400, "invalid_http", message))

    def let_go(self) -> None:
        """Make room: close it, as it waits for a request."""
        self._phase = "closing"
        self.transport.close()
        if self.transport.get_write_buffer_size():
            self.transport.abort()

    def look(self, now_s: float) -> None:
        """End it if it has been late at two looks: a clock may jump, where a machine slept."""
        if self.transport is None:  # it was taken, and is not ours yet
            return
        if self.flow.read_paused and self._phase == "body":
            self._begin("body")  # it is the app that is slow
        if self._answering and self._phase == "header":
            self._since_s = now_s  # the next request's, ahead of time
        if self._phase == "header" and self._bytes == 0 and now_s - self._since_s > UNUSED_S:
            self._clients.idle(self)
        if self.transport.is_closing() and self._phase != "closing":
            self._begin("closing")
        late = self._is_late(now_s)
        if late and self._late:
            self._end()
        self._late = late

    def _pause(self) -> None:
        """Read no more for a moment."""
        if not self.flow.resting:
            self.flow.resting = True
            self.transport.pause_reading()
            self.loop.call_later(PAUSE_S, self._read_on)

    def _read_on(self) -> None:
        if self._phase == "kept waiting":
            return
        self.flow.resting = False
        if self.transport.is_closing():
            return
        self._feed_held()
        if not (self.flow.resting or self.flow.read_paused or self.transport.is_closing()):
            self.transport.resume_reading()

    @property
    def _answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _begin(self, phase: Phase) -> None:
        self._phase, self._since_s, self._bytes, self._chunks = phase, self._clock.monotonic_s(), 0, 0

    def _is_late(self, now_s: float) -> bool:
        if self._stalled_s is not None and now_s - self._stalled_s > STALLED_S:
            return True
        if self._phase is None:
            return False
        sent_s = self._bytes / BODY_FLOOR if self._phase == "body" else 0.0
        return now_s - self._since_s > _ALLOWED_S[self._phase] + sent_s

    def _end(self) -> None:
        if self._phase == "header" and self._stalled_s is None:
            if self._bytes == 0:
                return self.transport.close()  # it was opened ahead of time, for a request that never came
            slow = f"the header was not complete within {HEADER_S:g} seconds"
            return self._turn_away("header", ApiError(408, "request_timeout", slow))
        if self._phase == "body" and self._stalled_s is None:
            slow = f"the body came too slowly: after {BODY_S:g} seconds {BODY_FLOOR} bytes a second are needed"
            return self._turn_away("body", ApiError(408, "request_timeout", slow))
        if self._stalled_s is not None or self._phase == "closing":
            metrics.REFUSED.labels(reason="stalled").inc()
        return self.transport.abort()

    def _turn_away(self, reason: str, error: ApiError) -> None:
        """Say why, if no other answer is under way, and read no more. What no client sends is answered late."""
        metrics.REFUSED.labels(reason=reason).inc()
        unheard = bool(self.pipeline) or (self._answering and (self.cycle.response_started or self._phase != "body"))
        if self._answering and not unheard:  # whoever works on it hears that the client is gone
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        if reason == "invalid":
            self.pipeline.clear()
            self._begin("kept waiting")
            self._clients.idle(self)
            self.flow.resting = True
            self.transport.pause_reading()
            self._telling = self.loop.create_task(self._tell_late(None if unheard else error))
        else:
            self._tell(None if unheard else error)

    async def _tell_late(self, error: ApiError | None) -> None:
        await self._late_answers.wait()
        if not self.transport.is_closing():
            self._tell(error)

    def _tell(self, error: ApiError | None) -> None:
        if error is None:
            return self.transport.abort()
        self.transport.write(_answer(error))
        self.transport.write_eof()
        self._begin("turned away")
        self.flow.resting = self.flow.read_paused = False
        return self.transport.resume_reading()


async def too_many(scope: Scope, receive: Receive, send: Send) -> None:
    """The ASGI app for who is one too many."""
    metrics.REFUSED.labels(reason="connections").inc()
    error = ApiError(503, "too_many_connections", "too many connections are open: try again", retry_after_s=RETRY_S)
    response = error.response()
    response.headers["connection"] = "close"
    await response(scope, receive, send)


def _answer(error: ApiError) -> bytes:
    body = msgspec.json.encode(error.body)
    head = (
        f"HTTP/1.1 {error.status} {HTTPStatus(error.status).phrase}\r\nconnection: close\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body
