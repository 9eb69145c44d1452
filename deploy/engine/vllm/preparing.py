"""What is to be served, made ready for engines: each adapter is checked, its record found, its files put where engines read.

In a thread, one after another: that may take minutes, and the replicas are watched meanwhile.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import structlog

from deploy.engine.refusing import Refusal, due, refuse
from deploy.engine.vllm.files import Files
from deploy.engine.vllm.keeper import Wanted
from deploy.rules.assignment import Routing
from feedback.clock import Clock
from models.adapters import engine_name, read_adapter
from models.bases import Base
from models.records import find_record

log = structlog.get_logger()


class Preparing:
    """The adapters of the directory `candidates`, trained on `base`. Belongs to one event loop."""

    def __init__(
        self, base: Base, candidates: Path, files: Files, routing: Callable[[], Routing | None], clock: Clock
    ) -> None:
        """`routing` says who serves now, None while that is not known."""
        self._base, self._candidates, self._files = base, candidates, files
        self._routing, self._clock = routing, clock
        self._ready: dict[str, Wanted] = {}
        self._unusable: dict[str, Refusal] = {}
        """The adapters that can't be served, by digest."""
        self._working: asyncio.Task[None] | None = None

    @property
    def known(self) -> Sequence[str]:
        """Digests of those that are ready."""
        return tuple(self._ready)

    @property
    def reasons(self) -> dict[str, str]:
        """Why adapters can't be served, by their names on engines."""
        return {engine_name(digest): refused.why for digest, refused in self._unusable.items()}

    def unusable(self, digest: str) -> bool:
        """Whether it can't be served, as far as is known."""
        return digest in self._unusable

    def template_date(self, model: str) -> str | None:
        """The day on which prompts for this model are rendered: an adapter's own, the base's that of the newest one here."""
        dates = {one.name: one.template_date for one in self._ready.values()}
        return dates.get(model, next(reversed(dates.values()), None))

    def ready(self, digests: Iterable[str]) -> list[Wanted]:
        """Those of them that are ready, in this order; what is not is begun, and what was refused is tried again later."""
        distinct = list(dict.fromkeys(digests))
        found = [one for digest in distinct if (one := self._ready.get(digest)) and self._files.has(one.path)]
        names = {one.name for one in found}
        now_s = self._clock.monotonic_s()
        missing = [
            digest for digest in distinct if engine_name(digest) not in names and due(self._unusable.get(digest), now_s)
        ]
        if missing and not self._busy:
            self._working = asyncio.create_task(self._work(missing))
        return found

    async def keep(self, needed: Callable[[str], bool]) -> None:
        """Forget the adapters that are not needed any more, and remove their files. Raises OSError."""
        if self._busy:  # it may be one of those
            return
        for digest in [digest for digest in self._ready if not needed(digest)]:
            del self._ready[digest]
        here = await asyncio.to_thread(self._files.digests)
        await asyncio.to_thread(self._files.remove, [digest for digest in here if not needed(digest)])

    async def stop(self) -> None:
        """Begin nothing more."""
        if self._working is not None:
            self._working.cancel()
            await asyncio.gather(self._working, return_exceptions=True)

    @property
    def _busy(self) -> bool:
        return self._working is not None and not self._working.done()

    async def _work(self, digests: Sequence[str]) -> None:
        for digest in digests:
            try:
                self._ready[digest] = await asyncio.to_thread(self._prepare, digest)
            except Exception as error:  # whatever is wrong with an adapter, what serves goes on
                self._refuse(digest, str(error) or type(error).__name__)
            else:
                self._unusable.pop(digest, None)

    def _refuse(self, digest: str, why: str) -> None:
        before, now_s = self._unusable.get(digest), self._clock.monotonic_s()
        self._unusable[digest] = refuse(before, engine_name(digest), why, self._routing(), now_s, error=why[:500])

    def _prepare(self, digest: str) -> Wanted:
        candidate = self._candidates / digest
        adapter = read_adapter(candidate, digest)
        adapter.check_fits(self._base)
        record = find_record(candidate, adapter.manifest)
        if record is None:
            from models.probes import remake  # brings in torch

            record = remake(candidate, adapter, self._base)
        path, zero = self._files.put(adapter), self._files.put_zero(adapter)
        return Wanted(engine_name(digest), path, zero, record, adapter.manifest.template_date)
