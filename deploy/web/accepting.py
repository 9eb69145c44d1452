"""Takes connections off a listening socket: not more than there is room for, and without haste where that fails.

asyncio's own server answers a lack of file descriptors with as many log lines as its backlog is long, every second, and
uvloop's closes the socket for good; neither has a limit. At the limit the connection that has waited longest for a request
is closed; where none waits, a few more are let in to be told so, and beyond these the kernel's queue waits.
"""

from __future__ import annotations

import asyncio
import errno
import resource
import socket
import sys
from collections.abc import Callable

import structlog

from deploy.web import metrics
from deploy.web.connection import Connection
from feedback.clock import Clock

PAUSE_S = 1.0
TOLD_EVERY_S = 60.0
SPARE = 64
"""How many more are let in to be told that there are too many."""

OTHER_FILES = 200
"""File descriptors that a process needs besides its clients' connections."""

log = structlog.get_logger()


class Acceptor:
    """Run it as a task. `connect(crowded)` makes the protocol of one connection."""

    def __init__(self, listening: socket.socket, limit: int, clock: Clock) -> None:
        self._listening, self._limit, self._clock = listening, min(limit, room_for_files()), clock
        self._open: set[Connection] = set()
        self._idle: dict[Connection, None] = {}
        self._left = asyncio.Event()
        self._connecting: set[asyncio.Task[None]] = set()
        self._told_s = -TOLD_EVERY_S
        self._gauge = metrics.CONNECTIONS.labels(port=str(listening.getsockname()[1]))
        self._gauge.set(0)  # who had this number before has none open any more

    @property
    def connections(self) -> frozenset[Connection]:
        """Those that are open."""
        return frozenset(self._open)

    async def run(self, connect: Callable[[bool], Connection]) -> None:
        """Take connections until cancelled."""
        loop = asyncio.get_running_loop()
        self._listening.setblocking(False)
        while True:
            while len(self._open) >= self._limit + SPARE:
                self._left.clear()
                await self._left.wait()
            try:
                taken, _ = await loop.sock_accept(self._listening)
            except ConnectionAbortedError:  # the client was quicker
                continue
            except OSError as error:
                await self._rest(error)
                continue
            if len(self._open) >= self._limit:
                self._make_room()
            connection = connect(len(self._open) >= self._limit)
            self._open.add(connection)
            task = asyncio.create_task(self._connect(connection, taken))
            self._connecting.add(task)
            task.add_done_callback(self._connecting.discard)

    def idle(self, connection: Connection) -> None:
        self._idle[connection] = None

    def busy(self, connection: Connection) -> None:
        self._idle.pop(connection, None)

    def lost(self, connection: Connection) -> None:
        self._idle.pop(connection, None)
        self._open.discard(connection)
        self._gauge.set(len(self._open))
        self._left.set()

    def _make_room(self) -> None:
        oldest = next(iter(self._idle), None)
        if oldest is not None:
            oldest.let_go()
            self.lost(oldest)

    async def _connect(self, connection: Connection, taken: socket.socket) -> None:
        try:
            await asyncio.get_running_loop().connect_accepted_socket(lambda: connection, taken)
        except OSError:  # gone already
            taken.close()
            self.lost(connection)
        self._gauge.set(len(self._open))

    async def _rest(self, error: OSError) -> None:
        metrics.ACCEPT_ERRORS.inc()
        now_s = self._clock.monotonic_s()
        if now_s - self._told_s >= TOLD_EVERY_S:
            self._told_s = now_s
            name = errno.errorcode.get(error.errno or 0, type(error).__name__)
            advice = "raise the limit of open files (ulimit -n), or lower gateway.max_connections"
            log.error("connections_not_accepted", error=name, open=len(self._open), next=advice)
        self._make_room()
        await self._clock.sleep(PAUSE_S)


def room_for_files() -> int:
    """How many connections the process's limit of open files leaves room for."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return sys.maxsize if soft == resource.RLIM_INFINITY else max(1, soft - OTHER_FILES)
