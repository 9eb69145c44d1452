"""Serving on a port until told to stop, and a process that ends in time."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import threading
from collections.abc import Awaitable, Callable, Collection, Coroutine, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import structlog
import uvicorn
import uvloop
from starlette.types import ASGIApp

from deploy.errors import Failed
from deploy.web.accepting import Acceptor
from deploy.web.bounded import Bounded
from deploy.web.connection import Connection
from deploy.web.hosts import Hosts
from deploy.web.pace import Late
from deploy.web.requests import Requests
from deploy.web.stopping import Stopping
from feedback.clock import Clock

CLOSING_S = 1
"""How long connections may take to close once no request is under way."""

BACKLOG = 2_048
LOOK_TICKS = 5
"""How often slow clients are looked for, in ticks of uvicorn's (0.1 s)."""

log = structlog.get_logger()


@dataclass(frozen=True)
class Limits:
    """What clients may take of a port: connections, each kept open so many seconds without a request, and bytes of a body."""

    connections: int = 1_000
    keep_alive_s: float = 75
    body_bytes: int = 10_000_000
    at_once: bool = True
    """Whether who is refused is told so at once: not on a port that strangers reach."""


class _Server(uvicorn.Server):
    """A server whose stopping is decided by the role, not by uvicorn's own signal handlers, and whose connections are ours."""

    def __init__(
        self, config: uvicorn.Config, listening: socket.socket, connections: int, clock: Clock, late: Late
    ) -> None:
        super().__init__(config)
        self._listening, self._clock, self._late = listening, clock, late
        self._acceptor = Acceptor(listening, connections, clock)
        self._accepting: asyncio.Task[None] | None = None

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=[])
        self._accepting = asyncio.create_task(self._acceptor.run(self._connection))

    async def on_tick(self, counter: int) -> bool:
        if self._accepting is not None and self._accepting.done():
            self._accepting.result()
        if counter % LOOK_TICKS == 0:
            now_s = self._clock.monotonic_s()
            for connection in self._acceptor.connections:
                connection.look(now_s)
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        if self._accepting is not None:
            self._accepting.cancel()
            await asyncio.gather(self._accepting, return_exceptions=True)
        await super().shutdown(sockets=[self._listening])

    def _connection(self, crowded: bool) -> Connection:
        state, clients = self.lifespan.state, self._acceptor
        return Connection(self.config, self.server_state, state, clients, self._clock, self._late, crowded=crowded)


def listen(host: str, port: int) -> socket.socket:
    """A port that takes connections from here on (0: any that is free). Raises Failed when it can't be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    both = family == socket.AF_INET6 and socket.has_dualstack_ipv6()
    try:
        return socket.create_server((host, port), family=family, backlog=BACKLOG, dualstack_ipv6=both)
    except OSError:
        raise Failed(f"{host}:{port} can't be used: is another process listening there? Choose another port") from None


async def serve(
    app: ASGIApp,
    listening: socket.socket,
    stop: asyncio.Event,
    within_s: float,
    clock: Clock,
    limits: Limits = Limits(),
    around: Callable[[ASGIApp], ASGIApp] = lambda app: app,
    names: Collection[str] = (),
) -> None:
    """Serve until `stop`. From then on requests are refused with a 503; those under way are finished, or ended `within_s`
    later. `around` is put around the app, refusals too; `names` are those of `access.host_names`."""
    stoppable, late = Stopping(app, clock), Late(clock)
    bounded = Bounded(stoppable, limits.body_bytes)
    named = Hosts(around(bounded), listening.getsockname()[0], names)
    config = uvicorn.Config(
        Requests(named, late, at_once=limits.at_once),
        http=Connection,
        ws="none",
        proxy_headers=False,  # it would believe whoever asks from this machine; deploy.web.addresses knows whom to believe
        log_config=None,
        log_level="error",  # its warnings are about what strangers send
        access_log=False,
        server_header=False,
        timeout_keep_alive=limits.keep_alive_s,  # type: ignore[arg-type]  # it takes fractions as well
        timeout_graceful_shutdown=CLOSING_S,
    )
    server = _Server(config, listening, limits.connections, clock, late)
    serving = asyncio.create_task(server.serve())
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait([serving, stopping], return_when=asyncio.FIRST_COMPLETED)
        stoppable.stop()
        late.end()
        if not serving.done():
            await stoppable.finished(within_s)
    finally:
        server.should_exit = True
        stopping.cancel()
        await serving


def run(work: Coroutine[object, object, None]) -> None:
    """Run a server's `work` in this thread, on the fast event loop (docs/decisions/http-server.md)."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(work)


async def run_until_stopped(
    work: Callable[[asyncio.Event], Awaitable[None]],
    within_s: float,
    clock: Clock,
    wait_gone: Callable[[], object] | None = None,
) -> None:
    """Run `work(stop)`; SIGTERM and SIGINT set `stop`, and end the process `within_s` later, whatever it does then.

    So does the end of `wait_gone`, which blocks in a thread of its own until whoever started this process is gone.
    """
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    begun = threading.Event()

    def asked() -> None:
        if not begun.is_set():
            begun.set()
            # a thread: the loop may be what hangs
            threading.Thread(target=_end, args=(within_s, clock), name="at-last", daemon=True).start()
            with suppress(RuntimeError):  # the loop is closed: all is done
                loop.call_soon_threadsafe(stop.set)

    def watch(wait_gone: Callable[[], object]) -> None:
        wait_gone()
        log.warning("parent_gone", next="this process stops in order")
        asked()

    for number in (signal.SIGTERM, signal.SIGINT):
        with suppress(NotImplementedError):
            loop.add_signal_handler(number, asked)
    if wait_gone is not None:
        threading.Thread(target=watch, args=(wait_gone,), name="parent", daemon=True).start()
    await work(stop)


def _end(within_s: float, clock: Clock) -> None:
    clock.pause(within_s)
    log.error("stopped_unfinished", after_s=within_s, setting="process.stop_within_s", rest="is done at the next start")
    os._exit(1)
