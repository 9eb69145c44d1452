"""The engine as the gateway sees it: one base model, and the adapters that the routing names loaded on it.

A task looks at the routing every half second, loads what it names and lets go of what it no longer does; a request
whose adapter is not there yet loads it. What can't be loaded is logged, counted and tried again later.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Protocol

import structlog

from deploy.engine import metrics
from deploy.engine.port import NotReady, Reply, Sampling, TextEngine
from deploy.engine.thread import EngineThread
from deploy.rules.assignment import Routing
from deploy.settings import Settings
from feedback.clock import Clock
from feedback.records import Message
from models.adapters import engine_name
from models.bases import Base, find_base

LOOK_S = 0.5
RETRY_LOAD_S = 30.0
RETRY_BASE_S = 5.0
KEPT = 2
"""Adapters outside the routing, asked for by name, that stay loaded."""

log = structlog.get_logger()


class RoutingSource(Protocol):
    """Who serves now; deploy.control.store.Control is one."""

    def routing(self) -> Routing: ...


class Engines:
    """Serves one base model and the adapters in `candidates`. `start` it, `stop` it.

    `find_base` gives the base, or None while there is none; `make` loads it (models.engine.LocalEngine, which brings in
    torch). At most `queue` requests wait.
    """

    def __init__(
        self,
        find_base: Callable[[], Base | None],
        candidates: Path,
        router: RoutingSource,
        *,
        queue: int,
        make: Callable[[Base], TextEngine] | None = None,
        clock: Clock,
    ) -> None:
        self._find_base, self._candidates, self._router = find_base, candidates, router
        self._make = make or _local_engine
        self._clock = clock
        self._engine: TextEngine | None = None
        self._why: str | None = "the base model is being loaded"
        self._thread = EngineThread(queue)
        self._servable: set[str] = set()
        self._failed_at: dict[str, float] = {}
        self._by_name: deque[str] = deque(maxlen=KEPT)
        self._loading = asyncio.Lock()
        self._watching: asyncio.Task[None] | None = None

    @property
    def base(self) -> Base | None:
        """The base that is served."""
        return self._engine.base if self._engine is not None else None

    @property
    def loaded(self) -> frozenset[str]:
        """Digests of the loaded adapters."""
        return frozenset(self._servable)

    def ready(self) -> str | None:
        """None when requests can be answered, else a sentence on what is missing."""
        return self._why

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
        self._why = "the gateway is stopping"
        await asyncio.to_thread(self._thread.stop)

    def reply(self, messages: Sequence[Message], adapter: str | None, sampling: Sampling) -> Reply:
        """A reply by the adapter of this digest, which `use` has loaded, or by the base. Raises NotReady, Overloaded."""
        if self._engine is None or self._why is not None:
            raise NotReady(self._why or "the base model is being loaded")
        reply = Reply(messages, adapter, sampling, asyncio.get_running_loop())
        self._thread.put(reply)
        return reply

    async def use(self, digest: str, *, by_name: bool = False) -> bool:
        """Whether this adapter can serve now; loads it where needed. A failure is logged, counted, and retried later.

        `by_name`: it was asked for by name, and stays loaded for a while although the routing does not name it.
        """
        if by_name and digest not in self._by_name:
            self._by_name.append(digest)
        if digest in self._servable:
            return True
        async with self._loading:
            return await self._load(digest)

    async def _load(self, digest: str) -> bool:
        if self._engine is None:
            return False
        if digest in self._servable:
            return True
        failed_at = self._failed_at.get(digest)
        if failed_at is not None and self._clock.monotonic_s() - failed_at < RETRY_LOAD_S:
            return False
        try:
            await asyncio.to_thread(self._engine.load_adapter, digest, self._candidates / digest)
        except Exception as error:  # whatever is wrong with an adapter, the incumbent goes on serving
            metrics.ADAPTER_LOAD_FAILURES.inc()
            self._failed_at[digest] = self._clock.monotonic_s()
            log.error("adapter_not_loaded", adapter=engine_name(digest), error=f"{type(error).__name__}: {error}"[:500])
            return False
        self._servable.add(digest)
        self._failed_at.pop(digest, None)
        log.info("adapter_loaded", adapter=engine_name(digest))
        return True

    async def _watch(self) -> None:
        while self._engine is None:
            await self._open_base()
        self._thread.start(self._engine)
        while True:
            try:
                await self._follow(await asyncio.to_thread(self._router.routing))
            except Exception as error:  # the database may be away for a moment: what is loaded goes on serving
                log.error("routing_not_read", error=type(error).__name__)
            self._why = None
            await self._clock.sleep(LOOK_S)

    async def _open_base(self) -> None:
        try:
            base = await asyncio.to_thread(self._find_base)
            if base is not None:
                self._engine = await asyncio.to_thread(self._make, base)
                return
            self._why = "no base model yet: run `trimtab replay FILE` or `trimtab train` first"
            await self._clock.sleep(LOOK_S)
        except Exception as error:  # a full disk, a model that is broken: said in /readyz, and tried again
            self._why = f"the base model can't be loaded: {error}"[:500]
            log.error("base_not_loaded", error=self._why)
            await self._clock.sleep(RETRY_BASE_S)

    async def _follow(self, routing: Routing) -> None:
        named = {"incumbent": routing.incumbent, "candidate": routing.candidate}
        roles = {digest: role for role, digest in named.items() if digest is not None}
        for digest in roles:
            await self.use(digest)
        async with self._loading:
            for digest in self._servable - roles.keys() - set(self._by_name) - self._thread.waiting_for():
                await self._unload(digest)
        metrics.ADAPTER_INFO.clear()
        for digest in self._servable:
            metrics.ADAPTER_INFO.labels(adapter=engine_name(digest), role=roles.get(digest, "by_name")).set(1)

    async def _unload(self, digest: str) -> None:
        assert self._engine is not None
        self._servable.discard(digest)  # first: from here on a request loads it again
        await asyncio.to_thread(self._engine.unload_adapter, digest)
        log.info("adapter_unloaded", adapter=engine_name(digest))


def open_engines(
    settings: Settings, state_root: Path, candidates: Path, router: RoutingSource, clock: Clock
) -> Engines:
    """The engines that these settings describe, not yet started."""
    find = partial(find_base, settings.base, settings.tiny, state_root)
    return Engines(find, candidates, router, queue=settings.gateway.queue, clock=clock)


def _local_engine(base: Base) -> TextEngine:
    from models.engine import LocalEngine

    return LocalEngine(base)
