"""The adapters on one engine: loaded when they are wanted, let go of when the routing does not name them and nobody uses them.

What can't be loaded is logged, counted and tried again later.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from pathlib import Path

import structlog

from deploy.engine import metrics
from deploy.engine.leases import Lease, Leases
from deploy.engine.port import TextEngine
from deploy.engine.refusing import Refusal, due, refuse
from deploy.rules.assignment import Routing
from feedback.clock import Clock
from models.adapters import engine_name

KEPT = 2
"""Adapters outside the routing, asked for by name, that stay loaded."""

log = structlog.get_logger()


class LoadedAdapters:
    """Belongs to one event loop; leases may be given back from any thread."""

    def __init__(
        self, engine: TextEngine, candidates: Path, routing: Callable[[], Routing | None], clock: Clock
    ) -> None:
        """`routing` says who serves now, None while that is not known."""
        self._engine, self._candidates, self._routing, self._clock = engine, candidates, routing, clock
        self._loaded: set[str] = set()
        self._leases = Leases()
        self._refused: dict[str, Refusal] = {}
        self._by_name: deque[str] = deque(maxlen=KEPT)
        self._changing = asyncio.Lock()
        self._loading = set[asyncio.Task[bool]]()

    @property
    def digests(self) -> frozenset[str]:
        return frozenset(self._loaded)

    def why_not(self, digest: str) -> str | None:
        """What went wrong when it was to be loaded last."""
        refused = self._refused.get(digest)
        return refused.why if refused else None

    async def hold(self, digest: str, *, by_name: bool = False) -> Lease | None:
        """A lease on this adapter, which is loaded where need be; None where it can't be."""
        if by_name and digest not in self._by_name:
            self._by_name.append(digest)
        lease = self._leases.take(
            digest
        )  # first: what is being loaded for somebody must not be unloaded before they have it
        loaded = False
        try:
            loaded = await self._load(digest)
        finally:
            if not loaded:
                lease.release()
        return lease if loaded else None

    async def follow(self, routing: Routing) -> None:
        """Load what the routing names, and unload what is neither named nor used."""
        named = routing.adapters.values()
        for digest in named:
            await self._load(digest)
        async with self._changing:
            for digest in self._loaded - {*named, *self._by_name}:
                if not self._leases.held(digest):
                    await self._unload(digest)
        metrics.show_loaded(self._loaded, routing)

    async def _load(self, digest: str) -> bool:
        if digest in self._loaded:
            return True
        loading = asyncio.create_task(self._load_in_turn(digest))
        self._loading.add(loading)
        loading.add_done_callback(self._loading.discard)
        return await asyncio.shield(
            loading
        )  # the engine goes on when its caller goes: what it has loaded is to be known

    async def _load_in_turn(self, digest: str) -> bool:
        async with self._changing:
            return digest in self._loaded or await self._try_to_load(digest)

    async def _try_to_load(self, digest: str) -> bool:
        before, name = self._refused.get(digest), engine_name(digest)
        if not due(before, self._clock.monotonic_s()):
            return False
        try:
            await asyncio.to_thread(self._engine.load_adapter, digest, self._candidates / digest)
        except Exception as error:  # whatever is wrong with an adapter, the incumbent goes on serving
            why, now_s = f"{type(error).__name__}: {error}"[:500], self._clock.monotonic_s()
            self._refused[digest] = refuse(before, name, why, self._routing(), now_s, error=why)
            return False
        self._loaded.add(digest)
        self._refused.pop(digest, None)
        log.info("adapter_loaded", adapter=name)
        return True

    async def _unload(self, digest: str) -> None:
        self._loaded.discard(digest)  # first: from here on a request loads it again
        await asyncio.to_thread(self._engine.unload_adapter, digest)
        log.info("adapter_unloaded", adapter=engine_name(digest))
