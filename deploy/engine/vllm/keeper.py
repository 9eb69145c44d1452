"""Keeps one replica as it should be: every second what it has is compared with what it should have.

An adapter is served from a replica only once it was loaded and proved there, for as long as the replica lists it: what it
forgot in a restart is loaded and proved again first. While adapters are on it, the base is served by one that changes
nothing: beside them, vLLM has answered for the base by what lay in its last slot. So an adapter waits until no reply is by
the base itself, at any gateway of this state directory.

Who asks for the base itself shares a lock, and has seen what the replica lists since. Who loads an adapter holds that lock
alone until it is listed; what stands in for the base is listed before that, and every gateway that sees it asks for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import PurePath

import structlog

from deploy.engine.refusing import Refusal, due, refuse
from deploy.engine.vllm import files
from deploy.engine.vllm.answers import NameTaken, NotLoaded, ReplicaAway
from deploy.engine.vllm.base_lock import BaseLock
from deploy.engine.vllm.plan import OURS, ZERO, plan
from deploy.engine.vllm.proving import Scores, prove_base, prove_on
from deploy.engine.vllm.replica import Replica
from deploy.rules.assignment import Routing
from feedback.clock import Clock
from models.proof import Record

BARE_S = 600.0
"""How long a first adapter waits for the replies by the base itself: some client may never read the end of its own."""
TAKE_S = 0.1
"""How often it is tried whether other gateways' replies by the base itself have ended."""

log = structlog.get_logger()


@dataclass(frozen=True)
class Wanted:
    """An adapter that is to be served: its name on engines, where these find it and one that changes nothing, and its record."""

    name: str
    path: PurePath
    zero: PurePath
    record: Record
    template_date: str | None = None
    """As the manifest has it."""

    @property
    def zero_name(self) -> str:
        """What the adapter that changes nothing is called on engines."""
        return ZERO + self.zero.name.removeprefix(files.ZERO)


class Keeper:
    """One replica, which finds our adapters in `folder`. Belongs to one event loop."""

    def __init__(
        self,
        replica: Replica,
        base: str,
        folder: PurePath,
        slots: int,
        lock: BaseLock,
        routing: Callable[[], Routing | None],
        clock: Clock,
    ) -> None:
        """`routing` says who serves now, None while that is not known."""
        self._replica, self._base, self._folder, self._slots = replica, base, folder, slots
        self._lock, self._routing, self._clock = lock, routing, clock
        self.away: str | None = f"{replica.url} was not asked yet"
        """Why nothing can be served from it; None when it can."""
        self.proved = set[str]()
        """The adapters that are served from it."""
        self.refused: dict[str, Refusal] = {}
        """The adapters that it does not serve, by name."""
        self.context: int | None = None
        """How many tokens of prompt and reply it has room for, as it says."""
        self._zero: str | None = None
        """The adapter that changes nothing, once it was seen to answer as the base, or to be there: nobody loads it otherwise."""
        self._listed: dict[str, str] = {}
        self._clean = False
        """No slot of it holds an adapter, listed or not: its base may be asked beside one that changes nothing."""
        self._quiet = False
        """The base itself is not to be asked now."""
        self._bare = 0
        self._no_bare = asyncio.Event()
        self._no_bare.set()
        self._changing: asyncio.Task[None] | None = None

    def model(self, name: str | None) -> str | None:
        """What to ask the replica for: this adapter, or (None) the base. None where it can't be had from it now."""
        if self.away is not None:
            return None
        if name is not None:
            return name if name in self.proved else None
        return self._zero or (self._base if self._alone_there and self._lock.held == "shared" else None)

    def other(self, name: str) -> str | None:
        """What to ask the replica for, where it calls this another model: the base by another name is asked for as the base."""
        if self._listed.get(name) == self._listed.get(self._base):
            return self.model(None)
        return None if self.away is not None else name

    @property
    def unproved(self) -> Sequence[str]:
        """The adapters that it lists and that are not served from it."""
        return sorted(set(_adapters(self._listed)) - self.proved)

    def may_have(self, name: str) -> bool:
        """Whether it lists this adapter, or may come to. Also where it can't be asked: others may send it requests all the
        same, and one for an adapter whose files are gone ends it. What is away for good is to be taken out of the settings.
        """
        return self.away is not None or self._busy or name in self._listed

    @contextmanager
    def asking(self, model: str) -> Iterator[None]:
        """A reply by this model is under way on it."""
        bare = model == self._base
        self._count(bare)
        try:
            yield
        finally:
            self._count(-bare)

    def _count(self, bare: int) -> None:
        self._bare += bare
        self._no_bare.clear() if self._bare else self._no_bare.set()

    def forgot(self, model: str) -> None:
        """It does not have this model any more."""
        self._listed.pop(model, None)
        self.proved.discard(model)
        self._zero = None if model == self._zero else self._zero
        log.warning("replica_forgot", engine=self._replica.url, model=model)

    async def look(self, wanted: Sequence[Wanted], used: Collection[str]) -> None:
        """See what it has, and begin what there is to change; `used` names what replies are by."""
        await self._ask()
        if self._alone_there and self._zero is None and self._lock.held is None and self._lock.share():
            await self._ask()  # what another gateway has loaded before that is listed by now
        if self._lock.held == "shared" and not self._bare and self.model(None) != self._base:
            self._lock.release()
        if self.away is None and not self._busy:
            todo = plan([one.name for one in wanted], self._listed.keys(), self.proved, used, self._slots)
            for name in todo.too_many:
                self._refuse(name, f"{self._replica.url} has {self._slots} slots, one of them the base's: none is left")
            now_s = self._clock.monotonic_s()
            again = self.proved if self._zero is None else ()  # the base's stand-in was lost: it comes with any of them
            load = [
                one for one in wanted if one.name in {*todo.load, *again} and due(self.refused.get(one.name), now_s)
            ]
            if load or todo.unload:
                self._changing = asyncio.create_task(self._change(load, todo.unload))

    async def stop(self) -> None:
        """Change nothing more."""
        if self._changing is not None:
            self._changing.cancel()
            await asyncio.gather(self._changing, return_exceptions=True)
        self._lock.close()

    @property
    def _alone_there(self) -> bool:
        """Whether its base may be asked itself, as far as we know: no adapter is there, or about to be."""
        return self.away is None and not self._quiet and not _adapters(self._listed)

    @property
    def _busy(self) -> bool:
        return self._changing is not None and not self._changing.done()

    async def _ask(self) -> None:
        try:
            if not await self._replica.healthy():
                raise ReplicaAway(f"{self._replica.url} is not well")
            self._listed = await self._replica.models()
            if self.away is not None:  # it may have been started anew
                self.context = await self._replica.context(self._base)
        except Exception as error:  # whatever it answers, nothing is served from it until it answers well
            self._is_away(str(error))
            return
        if self._base not in self._listed:
            self._is_away(f"{self._replica.url} serves no model {self._base!r}, but {', '.join(sorted(self._listed))}")
            return
        if self.away is not None:
            log.info("replica_here", engine=self._replica.url)
            self.away, self._clean = None, not any(name.startswith(OURS) for name in self._listed)
            self._warn_of_others()
        for model in {*self.proved, *filter(None, [self._zero])} - self._listed.keys():
            self.forgot(model)
        self._zero = self._zero or self._stand_in()
        self._clean = self._clean and not _adapters(self._listed)

    def _stand_in(self) -> str | None:
        """What it lists that was put into our folder as changing nothing; folders there are named by content."""
        names = (name for name in self._listed if name.startswith(ZERO))
        path = {name: self._folder / f"{files.ZERO}{name.removeprefix(ZERO)}" for name in names}
        return next((name for name in path if PurePath(self._listed[name]) == path[name]), None)

    def _warn_of_others(self) -> None:
        roots = self._listed
        others = [name for name in roots if roots[name] != roots[self._base] and not name.startswith(OURS)]
        if others:
            log.warning(
                "adapters_of_others",
                engine=self._replica.url,
                models=others,
                error="while none of ours is loaded, the base may be answered by one of these: give them a server of their own",
            )

    def _is_away(self, why: str) -> None:
        if self.away != why:
            log.error("replica_away", engine=self._replica.url, error=why)
        self.away = why

    async def _change(self, load: Sequence[Wanted], unload: Sequence[str]) -> None:
        for name in unload:
            await self._unload(name)
        for one in load:
            await self._load(one)

    async def _load(self, one: Wanted) -> None:
        replica = self._replica
        try:
            zero, base = await self._base_by_zero(one)
            async with self._alone():
                if zero != self._zero:  # it was lost meanwhile
                    return
                self._clean, self._listed[one.name] = False, str(one.path)
                await self._load_files(one.name, one.path)
            proof = await prove_on(replica, one.record, base, one.name)
        except ReplicaAway as error:
            self._is_away(str(error))
        except NotLoaded as error:  # it was restarted, or somebody unloads beside us: the next look finds what it has
            log.warning("replica_forgot", engine=replica.url, model=one.name, error=str(error)[:300])
        except Exception as error:  # whatever is wrong with an adapter, what serves goes on
            self._refuse(one.name, str(error)[:500])
            await self._unload(one.name)
        else:
            self.proved.add(one.name)
            self.refused.pop(one.name, None)
            log.info("adapter_loaded", adapter=one.name, engine=replica.url, strength=round(proof.strength, 2))

    async def _load_files(self, name: str, path: PurePath) -> None:
        """Load it from this very path: what a gateway of another state directory has left under that name goes."""
        try:
            await self._replica.load(name, path)
        except NameTaken:
            await self._replica.unload(name)
            await self._replica.load(name, path)

    async def _base_by_zero(self, one: Wanted) -> tuple[str, Scores]:
        """What stands in for the base, and what it scores: loaded where none is there, and proved to be this adapter's base."""
        self._quiet = self._zero is None and not self._clean
        try:
            if self._zero is None:
                async with self._alone() if self._quiet else nullcontext():
                    if self._zero is None:  # another gateway has not loaded one meanwhile
                        await self._load_files(one.zero_name, one.zero)
            zero = self._zero or one.zero_name
            scores = await prove_base(self._replica, one.record, zero)
            self._zero = zero
            return zero, scores
        finally:
            self._quiet = False

    @asynccontextmanager
    async def _alone(self) -> AsyncIterator[None]:
        """No reply is by the base itself, at any gateway, and none begins; or BARE_S were not enough for those to end."""
        zero, until_s = self._zero, self._clock.monotonic_s() + BARE_S
        await self._clock.wait(self._no_bare, BARE_S)
        while (self._bare or not self._lock.take()) and self._zero == zero and self._clock.monotonic_s() < until_s:
            await self._clock.sleep(TAKE_S)
        try:
            yield
        finally:
            if self._lock.held == "alone":
                self._lock.release()

    def _refuse(self, name: str, why: str) -> None:
        before, now_s = self.refused.get(name), self._clock.monotonic_s()
        told = {"engine": self._replica.url, "error": why}
        self.refused[name] = refuse(before, name, why, self._routing(), now_s, **told)

    async def _unload(self, name: str) -> None:
        self.proved.discard(name)
        try:
            await self._replica.unload(name)
        except Exception as error:
            log.warning("adapter_not_unloaded", adapter=name, engine=self._replica.url, error=str(error)[:300])
        else:
            self._listed.pop(name, None)
            log.info("adapter_unloaded", adapter=name, engine=self._replica.url)


def _adapters(names: Collection[str]) -> list[str]:
    return [name for name in names if name.startswith(OURS) and not name.startswith(ZERO)]
