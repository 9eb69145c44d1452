"""A client's connection on a real port: slow ones are turned away with a reason, honest ones are not."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
import uvicorn
from prometheus_client import REGISTRY
from starlette.responses import Response
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from deploy.web.connection import (
    BODY_FLOOR,
    BODY_S,
    CHUNKED_PIECE,
    CHUNKS_AT_ONCE,
    HEADER_PIECE,
    HEADER_S,
    LINGER_S,
    MAX_AHEAD,
    MAX_CHUNKS,
    MAX_HEADER_BYTES,
    MAX_HEADERS,
    PACED_BYTES,
    STALLED_S,
    Connection,
)
from deploy.web.pace import LATE_S, Late
from deploy.web.serving import Limits, listen, serve
from tests.deploy.web.ports import GET, Port, opened
from tests.fakes import ManualClock, until

CHUNKED = b"POST / HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: %d\r\n\r\n"
MOMENT_S = 0.001


def refused(reason: str) -> float:
    return REGISTRY.get_sample_value("trimtab_http_refused_total", {"reason": reason}) or 0.0


async def a_late_one_has_gone(port: Port, seconds: float) -> None:
    """Let time pass, until the server has ended one that was late: it has looked at all the others too."""
    late = await port.open()
    await port.clock.advance(max(seconds, HEADER_S) + 1)
    assert await late.ended()


async def when_it_is_late(port: Port) -> None:
    """Once the server keeps an answer back, let so much time pass that it says it."""
    await until(lambda: port.clock.waiting > 0, "the answer to be kept back")
    await port.clock.advance(LATE_S)


async def test_a_header_that_is_not_complete_in_time_is_a_408_however_steadily_it_drips() -> None:
    before = refused("header")
    async with opened() as port:
        client = await port.open()
        client.send(GET[:-2])
        for _ in range(10):
            client.send(b"x: y\r\n")
            await port.clock.advance(HEADER_S / 10)
        await port.clock.advance(MOMENT_S)
        assert await client.error() == (408, "request_timeout")
    assert refused("header") == before + 1
    assert port.asked == 0


async def test_a_connection_that_was_opened_ahead_of_time_and_never_used_is_closed_without_a_word() -> None:
    async with opened() as port:
        client = await port.open()
        client.send(GET)
        assert (await client.answer())[0] == 200
        unused = await port.open()
        await port.clock.advance(HEADER_S + MOMENT_S)
        assert await unused.ended()


async def test_a_body_that_comes_too_slowly_is_a_408_and_the_app_hears_that_its_client_is_gone() -> None:
    before = refused("body")
    async with opened() as port:
        client = await port.open()
        client.send(POST % 1_000_000 + b"x")
        await until(lambda: bool(port.received), "the first byte")
        await port.clock.advance(BODY_S + 1)
        assert await client.error() == (408, "request_timeout")
        await until(lambda: port.received[-1] == "http.disconnect", "the app to be told")
    assert refused("body") == before + 1


async def test_a_large_body_may_take_long_while_it_comes_at_the_floor() -> None:
    async with opened() as port:
        client = await port.open()
        seconds = int(3 * BODY_S)
        client.send(POST % (seconds * BODY_FLOOR))
        for second in range(1, seconds + 1):
            client.send(b"x" * BODY_FLOOR)
            await client.writer.drain()
            await until(lambda sent=second * BODY_FLOOR: port.taken >= sent, "the body so far")  # type: ignore[misc]
            await port.clock.advance(1)
        assert (await client.answer())[0] == 200


async def test_an_app_that_does_not_read_is_not_the_clients_fault() -> None:
    async with opened(read=False, go=asyncio.Event()) as port:
        client = await port.open()
        client.send(POST % 500_000 + b"x" * 200_000)
        await until(lambda: port.asked == 1, "the request")
        await a_late_one_has_gone(port, BODY_S)
        port.go.set()
        client.send(b"x" * 300_000)
        assert (await client.answer())[0] == 200
        client.send(GET)
        assert (await client.answer())[0] == 200


async def test_who_was_answered_before_the_body_came_may_not_send_it_for_ever() -> None:
    async with opened(read=False) as port:
        client = await port.open()
        client.send(POST % 1_000_000 + b"x")
        assert (await client.answer())[0] == 200
        client.send(b"x")
        await port.clock.advance(BODY_S + 1)
        assert await client.error() == (408, "request_timeout")


async def test_an_answer_that_takes_long_is_waited_for() -> None:
    async with opened(go=asyncio.Event()) as port:
        client = await port.open()
        client.send(POST % 1 + b"x" + b"\r\n")  # as old browsers end a body
        await until(lambda: port.asked == 1, "the request")
        await a_late_one_has_gone(port, 10 * BODY_S)
        port.go.set()
        assert (await client.answer())[0] == 200


async def test_who_never_reads_the_answer_loses_the_connection() -> None:
    before = refused("stalled")
    async with opened(body=b"x" * 30_000_000) as port:
        client = await port.open()
        client.send(GET)
        await client.reader.readuntil(b"\r\n\r\n")
        await a_late_one_has_gone(port, STALLED_S + 1)
        await until(lambda: refused("stalled") == before + 1, "the end of the connection")


class Wire:
    """A transport that is open until closed."""

    closed = paused = False
    written = b""

    def is_closing(self) -> bool:
        return self.closed

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False

    def write(self, data: bytes) -> None:
        self.written += data

    def write_eof(self) -> None: ...

    def close(self) -> None:
        self.closed = True

    abort = close

    def get_extra_info(self, _: str) -> None:
        return None


class Nobody:
    """Keeps no count."""

    def idle(self, _: Connection) -> None: ...

    busy = lost = idle


async def unread(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers before it has read anything."""
    await Response(b"")(scope, receive, send)


async def never(scope: Scope, receive: Receive, send: Send) -> None:
    """Neither reads nor answers."""
    await asyncio.Event().wait()


def connected(clock: ManualClock, wire: Wire) -> Connection:
    """Somebody on this wire."""
    config = uvicorn.Config(unread, http=Connection, log_config=None)
    connection = Connection(config, ServerState(), {}, Nobody(), clock, Late(clock), crowded=False)
    connection.connection_made(wire)
    return connection


async def test_a_clock_that_jumps_ends_nobody_at_once() -> None:
    clock, wire = ManualClock(), Wire()
    connection = connected(clock, wire)
    clock.set_forward(2 * HEADER_S)
    connection.look(clock.monotonic_s())
    assert not wire.closed
    connection.look(clock.monotonic_s())
    assert wire.closed


@pytest.mark.parametrize(
    ("sent", "status", "code"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400, "invalid_http"),  # somebody speaks TLS
        (b"SSH-2.0-OpenSSH_9.6\r\n", 400, "invalid_http"),
        (b"GET / HTTP/1.1\r\nhost : x\r\n\r\n", 400, "invalid_http"),
        (b"POST / HTTP/1.1\r\ncontent-length: -1\r\n\r\n", 400, "invalid_http"),
        (b"POST / HTTP/1.1\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n", 400, "invalid_http"),
        (b"GET /\xff HTTP/1.1\r\n\r\n", 400, "invalid_http"),
        (b"GET / HTTP/1.1\r\nx: " + b"x" * 2 * MAX_HEADER_BYTES, 431, "header_too_large"),
        (b"GET / HTTP/1.1\r\n" + b"x: y\r\n" * MAX_HEADER_BYTES, 431, "header_too_large"),
        (b"GET /" + b"x" * 2 * MAX_HEADER_BYTES, 431, "header_too_large"),
        (b"GET / HTTP/1.1\r\n" + b"a:\r\n" * 2 * MAX_HEADERS, 431, "header_too_large"),
    ],
    ids=["tls", "ssh", "space", "negative", "smuggling", "path", "value", "names", "url", "many"],
)
async def test_what_is_no_http_is_refused_in_the_same_shape(sent: bytes, status: int, code: str) -> None:
    async with opened() as port:
        client = await port.open()
        client.send(sent)
        await when_it_is_late(port)
        assert await client.error() == (status, code)
    assert port.asked == 0


async def test_who_was_turned_away_and_goes_on_sending_is_cut_off() -> None:
    async with opened() as port:
        client = await port.open()
        client.send(b"nonsense\r\n\r\n")
        await when_it_is_late(port)
        assert (await client.answer())[0] == 400
        client.send(b"more")
        await port.clock.advance(LINGER_S + 1)
        assert await client.ended()


async def test_who_was_turned_away_is_read_with_pauses() -> None:
    wire, clock = Wire(), ManualClock()
    connection = connected(clock, wire)
    connection.data_received(b"nonsense\r\n\r\n")
    await until(lambda: clock.waiting > 0, "the answer to be kept back")
    await clock.advance(LATE_S)
    assert wire.written
    assert not wire.paused
    connection.data_received(b"more")
    assert wire.paused
    await until(lambda: not wire.paused, "the end of the pause")


async def test_what_no_client_sends_is_told_so_late_and_nothing_is_read_meanwhile() -> None:
    wire, clock = Wire(), ManualClock()
    connection = connected(clock, wire)
    connection.data_received(b"nonsense\r\n\r\n")
    await until(lambda: clock.waiting > 0, "the answer to be kept back")
    connection.flow.resume_reading()
    connection.look(clock.monotonic_s())
    await clock.advance(LATE_S - MOMENT_S)
    assert wire.paused
    assert not wire.written
    assert not wire.closed
    await clock.advance(MOMENT_S)
    assert b"invalid_http" in wire.written


async def test_a_pause_that_ends_while_somebody_is_kept_waiting_changes_nothing() -> None:
    wire, clock = Wire(), ManualClock()
    connection = connected(clock, wire)
    connection._pause()
    connection.data_received(b"nonsense\r\n\r\n")
    connection._read_on()
    await until(lambda: clock.waiting > 0, "the answer to be kept back")
    assert wire.paused
    assert connection.flow.resting


async def test_who_goes_away_while_kept_waiting_is_forgotten() -> None:
    wire, clock = Wire(), ManualClock()
    connection = connected(clock, wire)
    connection.data_received(b"nonsense\r\n\r\n")
    await until(lambda: clock.waiting > 0, "the answer to be kept back")
    wire.close()
    connection.connection_lost(None)
    await clock.advance(LATE_S)
    assert not wire.written
    assert connection._telling is not None
    await until(connection._telling.done, "the end of the wait")


async def test_a_server_that_stops_keeps_nobody_waiting() -> None:
    listening, stop = listen("127.0.0.1", 0), asyncio.Event()
    port = Port(number=listening.getsockname()[1])
    serving = asyncio.create_task(serve(port, listening, stop, 1.0, port.clock))
    client = await port.open()
    client.send(b"nonsense\r\n\r\n")
    await until(lambda: port.clock.waiting > 0, "the answer to be kept back")
    stop.set()
    assert await client.error() == (400, "invalid_http")
    await serving


async def test_small_chunks_are_parsed_a_few_at_a_time_with_pauses_and_none_is_lost() -> None:
    wire = Wire()
    connection = connected(ManualClock(), wire)
    connection.app = never
    chunks = 3 * CHUNKS_AT_ONCE
    connection.data_received(CHUNKED)
    connection.data_received(b"2\r\nxy\r\n" * chunks + b"0\r\n\r\n")
    most = 0
    while connection._phase == "body":
        assert wire.paused
        most, before = max(most, connection._chunks_at_once), connection._chunks
        await until(lambda: connection._chunks > before or connection._phase is None, "the end of the pause")  # noqa: B023
    assert most <= CHUNKS_AT_ONCE + CHUNKED_PIECE // 7 + 1
    assert connection.cycle.body == b"xy" * chunks


async def test_a_body_that_nobody_reads_any_more_is_taken_with_pauses_and_the_next_request_is_answered() -> None:
    wire = Wire()
    connection = connected(ManualClock(), wire)
    connection.data_received(POST % 100 + b"x")
    await until(lambda: connection.cycle.response_complete, "the answer")
    assert not wire.paused
    connection.data_received(b"x")
    assert wire.paused
    await until(lambda: not wire.paused, "the end of the pause")
    async with opened(read=False) as port:
        client = await port.open()
        client.send(POST % 3_000_000)
        assert (await client.answer())[0] == 200
        client.send(b"x" * 3_000_000 + GET)
        assert (await client.answer())[0] == 200


async def test_a_big_body_is_read_with_pauses_however_eager_the_app_is() -> None:
    wire = Wire()
    connection = connected(ManualClock(), wire)
    connection.app = never
    connection.data_received(POST % (3 * PACED_BYTES))
    connection.data_received(b"x" * PACED_BYTES)
    connection.flow.resume_reading()
    assert not wire.paused
    connection.data_received(b"x")
    connection.flow.resume_reading()
    assert wire.paused
    await until(lambda: not wire.paused, "the end of the pause")
    connection.data_received(b"x" * 100_000)
    await until(lambda: not connection.flow.resting, "the end of the pause")
    assert wire.paused
    connection.flow.resume_reading()
    assert not wire.paused


@pytest.mark.parametrize(
    ("head", "one", "most"),
    [
        (b"GET / HTTP/1.1\r\n", b"a:\r\n", 2 * HEADER_PIECE // 4),
        (b"", b"GET / HTTP/1.1\r\n\r\n", MAX_AHEAD),
        (CHUNKED, b"1\r\nx\r\n", MAX_CHUNKS + HEADER_PIECE // 6),
    ],
    ids=["headers", "requests", "chunks"],
)
async def test_of_a_packet_full_of_what_costs_much_only_the_beginning_is_parsed(
    head: bytes, one: bytes, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    parsed = 0

    def counted(*_: object) -> None:
        nonlocal parsed
        parsed += 1

    for name in ("on_header", "on_message_begin", "on_body"):
        monkeypatch.setattr(HttpToolsProtocol, name, both(getattr(HttpToolsProtocol, name), counted))
    wire = Wire()
    connection = connected(ManualClock(), wire)
    connection.app = never
    connection.data_received(head + one * 40_000)
    await until(lambda: connection._phase == "kept waiting", "the end of it")
    await until(lambda: not connection.pipeline)
    assert parsed <= most + 10


def both(first: Callable[..., None], second: Callable[..., None]) -> Callable[..., None]:
    def call(*given: object) -> None:
        first(*given)
        second(*given)

    return call


async def test_a_body_in_tiny_chunks_is_refused_and_one_in_many_is_not() -> None:
    async with opened() as port:
        client = await port.open()
        client.send(CHUNKED + b"1\r\nx\r\n" * 2 * MAX_CHUNKS)
        await when_it_is_late(port)
        assert await client.error() == (400, "chunks_too_small")
        client = await port.open()
        client.send(CHUNKED + b"40\r\n" + b"x" * 64 + b"\r\n")
        client.send((b"40\r\n" + b"x" * 64 + b"\r\n") * 2 * MAX_CHUNKS + b"0\r\n\r\n")
        assert (await client.answer())[0] == 200


async def test_who_sends_far_ahead_of_the_answers_is_cut_off() -> None:
    async with opened(go=asyncio.Event()) as port:
        client = await port.open()
        client.send(GET * 3 * MAX_AHEAD)
        await when_it_is_late(port)
        await until(client.ended, "the end")
    assert port.asked <= 1


async def test_requests_in_one_packet_are_answered_one_after_another() -> None:
    async with opened() as port:
        client = await port.open()
        client.send(3 * GET)
        assert [(await client.answer())[0] for _ in range(3)] == [200] * 3


async def test_an_offer_of_http_2_is_passed_over() -> None:
    async with opened() as port:
        client = await port.open()
        for _ in range(2):
            client.send(b"POST / HTTP/1.1\r\nconnection: upgrade\r\nupgrade: h2c\r\ncontent-length: 1\r\n\r\nx")
            assert (await client.answer())[0] == 200


async def test_a_connection_is_kept_for_the_time_that_is_set_after_an_answer() -> None:
    async with opened(Limits(keep_alive_s=0.01), read=False) as port:
        whole, early = await port.open(), await port.open()
        whole.send(GET)
        early.send(POST % 2 + b"x")
        for client in (whole, early):
            assert (await client.answer())[0] == 200
        early.send(b"x")  # the body is complete only now
        assert await whole.ended()
        assert await early.ended()
