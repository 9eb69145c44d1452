"""What every role has: its state, its settings, its admin port, and why it is not ready yet."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from socket import socket

from fastapi import APIRouter

from deploy.console.port import MAX_BODY_BYTES, admin_app
from deploy.control.store import Control
from deploy.roles import metrics
from deploy.settings import Settings
from deploy.state import State
from deploy.web.health import Others, Ready, alone
from deploy.web.serving import Limits, serve
from feedback.clock import Clock
from feedback.durable import free_bytes, size_bytes

REFRESH_S = 2.0
REST_S = 4.0


class Role:
    """What every role has: its state, its settings, its admin port (None: none), and why it is not ready yet.

    `on_ready` is called each time that it becomes so.
    """

    def __init__(
        self,
        state: State,
        settings: Settings,
        control: Control,
        clock: Clock,
        admin: socket | None = None,
        on_ready: Callable[[], object] = lambda: None,
        seat: int = 1,
    ) -> None:
        self.state, self.settings, self.control, self.clock = state, settings, control, clock
        self.seat = seat
        """Which of those that play this role at the same time it is (`State.play`)."""
        self._admin, self._on_ready = admin, on_ready
        metrics.DISK_FREE_BYTES.set_function(partial(free_bytes, state.root))
        metrics.DISK_BYTES.set_function(partial(size_bytes, state.root))
        self._waiting: str | None = "starting"
        self.duties: dict[str, Ready] = {}
        """What it does that may be ready by itself, each with a sentence on what it waits for."""
        self.others: Others = alone
        """How the other roles are for which the public port speaks."""

    @property
    def waiting(self) -> str | None:
        """One sentence on what it waits for; None when it can do its work."""
        return self._waiting

    @waiting.setter
    def waiting(self, why: str | None) -> None:
        became_ready = why is None and self._waiting is not None
        self._waiting = why
        if became_ready:
            self._on_ready()

    @property
    def finish_s(self) -> float:
        """How long requests under way may take when the role stops; the rest of `process.stop_within_s` is for what follows."""
        return self.settings.process.stop_within_s - self.rest_s

    @property
    def rest_s(self) -> float:
        """What is left then, of `process.stop_within_s`."""
        return min(REST_S, self.settings.process.stop_within_s / 4)

    async def run(self, stop: asyncio.Event, work: Awaitable[None], routers: tuple[APIRouter, ...] = ()) -> None:
        """Serve the admin port beside `work`; what ends first, or raises, ends both."""
        tasks = [asyncio.ensure_future(work)]
        if self._admin is not None:
            app = admin_app(lambda: self.waiting, routers, self.duties)
            tasks.append(
                asyncio.create_task(
                    serve(
                        app,
                        self._admin,
                        stop,
                        self.finish_s,
                        self.clock,
                        Limits(body_bytes=MAX_BODY_BYTES),
                        names=self.settings.access.host_names,
                    )
                )
            )
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        stop.set()
        await asyncio.wait(tasks)  # what failed is raised once the other has ended in order
        await asyncio.gather(*tasks)
