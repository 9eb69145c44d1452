"""Serving on a port until told to stop, and a process that ends in time."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress

import structlog
import uvicorn

from deploy.errors import Failed
from feedback.clock import Clock

SHUTDOWN_S = 15
"""How long requests under way may take when a role stops; leaves time for the rest within `process.stop_within_s`."""

BACKLOG = 2_048

log = structlog.get_logger()


class _Server(uvicorn.Server):
    """A server whose stopping is decided by the role, not by uvicorn's own signal handlers."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def listen(host: str, port: int) -> socket.socket:
    """A port that takes connections from here on (0: any that is free). Raises Failed when it can't be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    both = family == socket.AF_INET6 and socket.has_dualstack_ipv6()
    try:
        return socket.create_server((host, port), family=family, backlog=BACKLOG, dualstack_ipv6=both)
    except OSError:
        raise Failed(f"{host}:{port} can't be used: is another process listening there? Choose another port") from None


async def serve(app: object, listening: socket.socket, stop: asyncio.Event) -> None:
    """Serve until `stop`; requests under way are finished."""
    config = uvicorn.Config(
        app,  # type: ignore[arg-type]
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=SHUTDOWN_S,
    )
    server = _Server(config)
    serving = asyncio.create_task(server.serve(sockets=[listening]))
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait([serving, stopping], return_when=asyncio.FIRST_COMPLETED)
    server.should_exit = True
    stopping.cancel()
    await serving


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
