"""The local engine as the gateway sees it: one base model, and the adapters that the routing names loaded on it.

A task looks at the routing every half second, loads what it names and lets go of what it no longer does; a request
whose adapter is not there yet loads it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Protocol

import structlog

from deploy.engine.fetching import FETCHING, fetch_smollm2
from deploy.engine.loaded import LoadedAdapters
from deploy.engine.place import LocalPlace
from deploy.engine.port import NotReady, TextEngine
from deploy.engine.thread import STOPPING, EngineThread
from deploy.rules.assignment import Routing
from deploy.settings import Settings
from feedback.clock import Clock
from models.bases import SMOLLM2, Base, served_base
from models.imports import quick_imports

LOOK_S = 0.5
RETRY_BASE_S = 5.0
LOADING = "the base model is being loaded"

log = structlog.get_logger()


class RoutingSource(Protocol):
    """Who serves now, as far as it is known: None while it is not. Must not block."""

    def routing(self) -> Routing | None: ...


class LocalEngines:
    """Serves one base model and the adapters in `candidates`. `start` it, `stop` it.

    `find_base` gives the base, or None while there is none; `fetch` gets one that is had without a training, where there
    is such a one. `make` loads it (models.engine.LocalEngine, which brings in torch). At most `queue` requests wait. Clients ask for it by `name`; replies are at most `max_tokens` long.
    """

    def __init__(
        self,
        find_base: Callable[[], Base | None],
        candidates: Path,
        router: RoutingSource,
        *,
        queue: int,
        name: str = "trimtab",
        max_tokens: int = 256,
        make: Callable[[Base], TextEngine] | None = None,
        fetch: Callable[[], Awaitable[None]] | None = None,
        clock: Clock,
    ) -> None:
        self._find_base, self._candidates, self._router = find_base, candidates, router
        self._make, self._fetch = make or _local_engine, fetch
        self.names = (name,)
        self._max_tokens = max_tokens
        self._clock = clock
        self._engine: TextEngine | None = None
        self._adapters: LoadedAdapters | None = None
        self._why: str | None = LOADING
        self._thread = EngineThread(queue)
        self._watching: asyncio.Task[None] | None = None

    def base(self, model: str) -> str:
        """The name of the base, whatever is asked for; there must be one."""
        assert self._engine is not None
        return self._engine.base.name

    @property
    def loaded(self) -> frozenset[str]:
        """Digests of the loaded adapters."""
        return self._adapters.digests if self._adapters is not None else frozenset()

    def why_not(self, digest: str) -> str | None:
        """What went wrong when it was to be loaded last."""
        return self._adapters.why_not(digest) if self._adapters is not None else None

    def ready(self) -> str | None:
        """None when requests can be answered, else a sentence on what is missing."""
        return self._why

    @property
    def idle(self) -> bool:
        """Whether less than half of what goes forward together is under way or waits."""
        return self._thread.idle

    async def start(self) -> None:
        """Begin loading; `ready` tells when it is done."""
        self._watching = asyncio.create_task(self._watch())

    def drain(self) -> None:
        """End with NotReady what has not begun, and begin nothing more; what has begun goes on."""
        self._thread.drain()

    async def stop(self) -> None:
        """End the replies under way with an error and stop the thread."""
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.gather(self._watching, return_exceptions=True)
        self._why = STOPPING
        await asyncio.to_thread(self._thread.stop)

    def admit(self) -> LocalPlace:
        """A place in the line for one request: use it as a context. Raises NotReady, Overloaded."""
        if self._engine is None or self._adapters is None or self._why is not None:
            raise NotReady(self._why or LOADING)
        self._thread.reserve()
        return LocalPlace(self._engine, self._thread, self._adapters, self._max_tokens)

    async def _watch(self) -> None:
        while self._engine is None:
            await self._open_base()
        self._adapters = LoadedAdapters(self._engine, self._candidates, self._router.routing, self._clock)
        self._thread.start(self._engine)
        while True:
            try:
                if (routing := self._router.routing()) is not None:
                    await self._adapters.follow(routing)
            except Exception as error:  # what is loaded goes on serving
                log.error("routing_not_followed", error=type(error).__name__)
            self._why = None
            await self._clock.sleep(LOOK_S)

    async def _open_base(self) -> None:
        try:
            base = await asyncio.to_thread(self._find_base)
            if base is not None:
                self._engine = await asyncio.to_thread(self._make, base)
                return
            if self._fetch is not None:
                self._why = FETCHING
                await self._fetch()
            else:
                self._why = "no base model yet: run `trimtab replay FILE` or `trimtab train` first"
            await self._clock.sleep(LOOK_S)
        except Exception as error:  # a full disk, a model that is broken: said in /readyz, and tried again
            self._why = f"the base model can't be loaded: {error}"[:500]
            log.error("base_not_loaded", error=self._why)
            await self._clock.sleep(RETRY_BASE_S)


def open_local(
    settings: Settings, state_root: Path, candidates: Path, router: RoutingSource, clock: Clock
) -> LocalEngines:
    """The engine that these settings describe, not yet started."""
    find = partial(served_base, settings.base, settings.tiny, state_root)
    gateway = settings.gateway
    return LocalEngines(
        find,
        candidates,
        router,
        queue=gateway.queue,
        name=gateway.model_alias,
        max_tokens=gateway.max_tokens,
        fetch=partial(fetch_smollm2, state_root) if settings.base.name == SMOLLM2 else None,
        clock=clock,
    )


def _local_engine(base: Base) -> TextEngine:
    with quick_imports():
        from models.engine import LocalEngine

    return LocalEngine(base)
