"""Serving on a port until told to stop, and a process that ends in time."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress

import structlog
import uvicorn

from deploy.errors import Failed
from feedback.clock import Clock

SHUTDOWN_S = 15
"""How long requests under way may take when a role stops; leaves time for the rest within `process.stop_within_s`."""

log = structlog.get_logger()


class _Server(uvicorn.Server):
    """A server whose stopping is decided by the role, not by uvicorn's own signal handlers."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def serve(app: object, host: str, port: int, stop: asyncio.Event) -> None:
    """Serve until `stop`; requests under way are finished. Raises Failed when the port can't be had."""
    config = uvicorn.Config(
        app,  # type: ignore[arg-type]
        host=host,
        port=port,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=SHUTDOWN_S,
    )
    try:
        sockets = [config.bind_socket()]
        sockets[0].listen(config.backlog)  # of two that bound it at the same moment, one is told here
    except (SystemExit, OSError):  # uvicorn says with SystemExit that it can't bind
        raise Failed(f"{host}:{port} can't be used: is another process listening there? Choose another port") from None
    server = _Server(config)
    serving = asyncio.create_task(server.serve(sockets=sockets))
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait([serving, stopping], return_when=asyncio.FIRST_COMPLETED)
    server.should_exit = True
    stopping.cancel()
    await serving


async def run_until_stopped(work: Callable[[asyncio.Event], Awaitable[None]], within_s: float, clock: Clock) -> None:
    """Run `work(stop)`; SIGTERM and SIGINT set `stop`, and end the process `within_s` later, whatever it does then."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def asked() -> None:
        if not stop.is_set():
            stop.set()
            # a thread: the loop may be what hangs
            threading.Thread(target=_end, args=(within_s, clock), name="at-last", daemon=True).start()

    for number in (signal.SIGTERM, signal.SIGINT):
        with suppress(NotImplementedError):
            loop.add_signal_handler(number, asked)
    await work(stop)


def _end(within_s: float, clock: Clock) -> None:
    clock.pause(within_s)
    log.error("stopped_unfinished", after_s=within_s, setting="process.stop_within_s", rest="is done at the next start")
    os._exit(1)
