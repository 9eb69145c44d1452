"""What every role has: its state, its settings, its admin port, and why it is not ready yet."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable

from fastapi import APIRouter

from deploy.console.port import admin_app
from deploy.control.store import Control
from deploy.settings import Settings
from deploy.state import State
from deploy.web.serving import serve
from feedback.clock import Clock

REFRESH_S = 2.0


class Role:
    """What every role has: its state, its settings, its admin address, and why it is not ready yet."""

    def __init__(
        self, state: State, settings: Settings, control: Control, clock: Clock, admin_host: str, admin_port: int
    ) -> None:
        self.state, self.settings, self.control, self.clock = state, settings, control, clock
        self._admin = (admin_host, admin_port)
        self.waiting: str | None = "starting"

    async def run(self, stop: asyncio.Event, work: Awaitable[None], routers: tuple[APIRouter, ...] = ()) -> None:
        """Serve the admin port beside `work`; what ends first, or raises, ends both."""
        admin = asyncio.create_task(serve(admin_app(lambda: self.waiting, routers), *self._admin, stop))
        working = asyncio.ensure_future(work)
        await asyncio.wait([admin, working], return_when=asyncio.FIRST_COMPLETED)
        stop.set()
        await asyncio.wait([admin, working])  # what failed is raised once the other has ended in order
        await asyncio.gather(admin, working)
