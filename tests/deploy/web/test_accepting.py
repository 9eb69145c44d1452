"""Connections: at most so many, those that wait for a request make room, and a lack of files is borne quietly."""

from __future__ import annotations

import asyncio
import errno
import resource
import socket
from typing import Any, cast

import pytest
import uvloop
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from deploy.web import accepting, metrics
from deploy.web.accepting import OTHER_FILES, PAUSE_S, SPARE, TOLD_EVERY_S, Acceptor, room_for_files
from deploy.web.connection import UNUSED_S, Connection
from deploy.web.serving import Limits, listen, run
from tests.deploy.web.ports import GET, Port, opened
from tests.fakes import ManualClock, until


async def test_who_is_one_too_many_is_told_so_and_the_others_go_on() -> None:
    before = REGISTRY.get_sample_value("trimtab_http_refused_total", {"reason": "connections"}) or 0.0
    async with opened(Limits(connections=2), go=asyncio.Event()) as port:
        served = [await port.open() for _ in range(2)]
        for client in served:
            client.send(GET)
        await until(lambda: port.asked == 2, "both to be asked")
        late = await port.open()
        late.send(b"POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: 3\r\n\r\nall")
        status, headers, _ = await late.answer()
        assert (status, headers["retry-after"], headers["connection"]) == (503, "5", "close")
        assert await late.ended()
        port.go.set()
        assert [(await client.answer())[0] for client in served] == [200, 200]
        await until(lambda: port.connections == 2)
        again = await port.dial()  # one of the two waits for a request now
        again.send(GET)
        assert (await again.answer())[0] == 200
    assert REGISTRY.get_sample_value("trimtab_http_refused_total", {"reason": "connections"}) == before + 1


async def test_at_the_limit_whoever_has_waited_longest_for_a_request_makes_room() -> None:
    async with opened(Limits(connections=3)) as port:
        first, second, third = [await port.open() for _ in range(3)]
        for client in (second, third, first):
            client.send(GET)
            assert (await client.answer())[0] == 200
        fourth = await port.dial()
        fourth.send(GET)
        assert (await fourth.answer())[0] == 200
        assert await second.ended()
        for client in (third, first):
            client.send(GET)
            assert (await client.answer())[0] == 200


async def test_a_connection_makes_no_room_while_its_first_bytes_may_be_on_their_way() -> None:
    async with opened(Limits(connections=1)) as port:
        first = await port.open()
        second = await port.open()
        for client, status in ((second, 503), (first, 200)):
            client.send(GET)
            assert (await client.answer())[0] == status


async def test_a_connection_that_is_not_used_makes_room_in_the_end() -> None:
    async with opened(Limits(connections=1)) as port:
        unused = await port.open()
        await port.clock.advance(UNUSED_S + 0.1)
        ended = asyncio.create_task(unused.ended())
        while not ended.done():  # until the server has looked at it
            client = await port.dial()
            client.send(GET)
            assert (await client.answer())[0] in (200, 503)
            client.close()
        assert await ended


def test_a_port_that_somebody_had_before_begins_with_no_connections() -> None:
    with listen("127.0.0.1", 0) as listening:
        number = str(listening.getsockname()[1])
        metrics.CONNECTIONS.labels(port=number).set(3)
        Acceptor(listening, 1, ManualClock())
        assert REGISTRY.get_sample_value("trimtab_http_connections", {"port": number}) == 0


async def test_beyond_what_can_be_refused_politely_connections_wait_until_there_is_room() -> None:
    listening = listen("127.0.0.1", 0)
    taken: list[bool] = []
    made: list[Any] = []

    def connect(crowded: bool) -> Connection:
        taken.append(crowded)
        made.append(asyncio.Protocol())
        return cast(Connection, made[-1])

    acceptor = Acceptor(listening, 1, ManualClock())
    running = asyncio.create_task(acceptor.run(connect))
    dialled = [await asyncio.open_connection(*listening.getsockname()) for _ in range(SPARE + 3)]
    await until(lambda: len(taken) == 1 + SPARE, "as many as there are to be")
    await asyncio.open_connection(*listening.getsockname())  # meanwhile those before it could have been taken
    assert taken == [False, *[True] * SPARE]
    acceptor.lost(made[0])
    await until(lambda: len(taken) == 2 + SPARE, "one more")
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    for _, writer in dialled:
        writer.close()
    listening.close()


class NoFiles:
    """A loop's `sock_accept` for a process that has no file left, until told otherwise."""

    def __init__(self) -> None:
        self.asked = 0
        self.left = False
        self._accept = asyncio.get_running_loop().sock_accept

    async def __call__(self, listening: socket.socket) -> tuple[socket.socket, Any]:
        self.asked += 1
        if not self.left:
            raise OSError(errno.EMFILE, "Too many open files")
        return await self._accept(listening)


async def test_without_files_it_is_tried_again_each_second_and_said_once_a_minute() -> None:
    clock, listening = ManualClock(), listen("127.0.0.1", 0)
    accept = NoFiles()
    loop = asyncio.get_running_loop()
    with pytest.MonkeyPatch.context() as patch, capture_logs() as logged:
        patch.setattr(loop, "sock_accept", accept)
        accepting = asyncio.create_task(Acceptor(listening, 5, clock).run(lambda _: pytest.fail("there is none")))
        for second in range(1, int(TOLD_EVERY_S) + 1):
            await until(lambda: clock.waiting == 1)
            assert accept.asked == second
            await clock.advance(PAUSE_S)
        await until(lambda: clock.waiting == 1)
        accepting.cancel()
        await asyncio.gather(accepting, return_exceptions=True)
    listening.close()
    said = [entry for entry in logged if entry["event"] == "connections_not_accepted"]
    assert len(said) == 2
    assert said[0]["error"] == "EMFILE"
    assert "ulimit" in said[0]["next"]


async def test_once_there_are_files_again_connections_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    accept = NoFiles()
    monkeypatch.setattr(asyncio.get_running_loop(), "sock_accept", accept)
    async with opened() as port:
        client = await port.dial()
        client.send(GET)
        await until(lambda: accept.asked == 1)
        accept.left = True
        await port.clock.advance(PAUSE_S)
        assert (await client.answer())[0] == 200


def test_a_process_that_may_open_few_files_takes_fewer_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accepting.resource, "getrlimit", lambda _: (1_024, 4_096))
    assert room_for_files() == 1_024 - OTHER_FILES
    monkeypatch.setattr(accepting.resource, "getrlimit", lambda _: (64, 64))
    assert room_for_files() == 1
    monkeypatch.setattr(accepting.resource, "getrlimit", lambda _: (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert room_for_files() > 1_000_000


@pytest.mark.slow
def test_on_the_fast_loop_hundreds_of_connections_at_once_are_served() -> None:
    async def work() -> None:
        assert isinstance(asyncio.get_running_loop(), uvloop.Loop)
        async with opened() as port:
            assert await asyncio.gather(*(ask(port) for _ in range(300))) == [200] * 300

    async def ask(port: Port) -> int:
        client = await port.dial()
        client.send(GET)
        status, _, _ = await client.answer()
        client.close()
        return status

    run(work())
