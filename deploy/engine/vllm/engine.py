"""vLLM replicas as an engine: plain text goes as token ids, other chats pass through, by adapters that are loaded and proved on each replica by itself.

A task looks every second at the routing and at every replica. What the routing names and no replica serves (yet) is not
there: the incumbent answers meanwhile, else the base.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import structlog

from deploy.engine import metrics
from deploy.engine.adapters import RoutingSource
from deploy.engine.leases import Lease, Leases
from deploy.engine.loaded import KEPT
from deploy.engine.port import ChatRequest
from deploy.engine.remote.answer import Patience, Wire
from deploy.engine.remote.engine import CHAT, RemoteEngine, as_said
from deploy.engine.remote.replicas import Replica as Address
from deploy.engine.vllm.files import Files
from deploy.engine.vllm.keeper import Keeper
from deploy.engine.vllm.neighbours import Needs, Neighbours, wanted_by
from deploy.engine.vllm.plan import OURS, fit
from deploy.engine.vllm.preparing import Preparing
from deploy.engine.vllm.prompts import Prompts
from deploy.engine.vllm.replica import Replica
from deploy.engine.vllm.templated import ChatDocuments, completion, is_plain, prompt_tokens
from deploy.rules.assignment import Routing
from feedback.clock import Clock
from feedback.durable import write_json
from models.adapters import engine_name
from models.bases import Base

LOOK_S = 1.0
WAIT_S = 120.0
"""How long somebody who names an adapter waits for it to be loaded and proved."""

log = structlog.get_logger()


class VllmEngine(RemoteEngine):
    """deploy.engine.port.Engine on vLLM. `base` is what candidates must have been trained on; `note` the file that says what is served."""

    def __init__(
        self,
        urls: Sequence[str],
        models: Mapping[str, str],
        key: str | None,
        patience: Patience,
        limit: int,
        clock: Clock,
        *,
        slots: int,
        base: Base,
        candidates: Path,
        files: Files,
        router: RoutingSource,
        neighbours: Neighbours,
        chat: Literal["templated", "always"] = "templated",
        note: Path | None = None,
    ) -> None:
        super().__init__(urls, models, key, patience, limit, clock)
        self._prompts, self._by_chat = Prompts(base), chat == "always"
        self._slots, self._base, self._seen_as = slots, base, files.seen_as
        self._note, self._noted = note, dict[str, Any]()
        self._router, self._neighbours = router, neighbours
        self._preparing = Preparing(base, candidates, files, router.routing, clock)
        self._keepers: dict[str, Keeper] = {}
        self._leases = Leases()
        self._by_name: deque[str] = deque(maxlen=KEPT)
        self._watching: asyncio.Task[None] | None = None

    def base(self, model: str) -> str:
        """What candidates call the base, where that is what is served."""
        asked = super().base(model)
        return self._base.name if asked == self._served else asked

    @property
    def loaded(self) -> frozenset[str]:
        """Digests of the adapters that some replica serves now."""
        return frozenset(digest for digest in self._preparing.known if self._somewhere(engine_name(digest)))

    def ready(self) -> str | None:
        """None when some replica can answer."""
        if (why := super().ready()) is not None:
            return why
        if (why := self._prompts.missing) is not None:
            return why
        if any(keeper.model(None) for keeper in self._keepers.values()):
            return None
        reasons = [keeper.away or "it is being proved that its base is ours" for keeper in self._keepers.values()]
        return f"no replica of the engine can answer: {'; '.join(reasons) or 'none was asked yet'}"

    def state(self) -> list[dict[str, object]]:
        """What is served, replica by replica, and what is loaded there but not proved."""
        return [
            {"url": url, "away": keeper.away, "adapters": sorted(keeper.proved), "base": keeper.model(None)}
            | {"unproved": keeper.unproved}
            | {"refused": {name: refused.why for name, refused in sorted(keeper.refused.items())}}
            for url, keeper in self._keepers.items()
        ]

    async def start(self) -> None:
        """Begin to look."""
        await super().start()
        assert self._session is not None
        for address in self.replicas.all:
            replica = Replica(self._session, address.url.removesuffix("/v1"), self._clock)
            lock = self._neighbours.base_lock(address.url)
            self._keepers[address.url] = Keeper(
                replica, self._served, self._seen_as, self._slots, lock, self._router.routing, self._clock
            )
        self._prompts.start()
        self._watching = asyncio.create_task(self._watch())

    async def stop(self) -> None:
        """Change nothing more, and end the connections; what is loaded stays loaded."""
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.gather(self._watching, return_exceptions=True)
        await self._preparing.stop()
        for keeper in self._keepers.values():
            await keeper.stop()
        self._prompts.stop()
        await super().stop()

    async def hold(self, digest: str, *, by_name: bool) -> Lease | None:
        """A lease on this adapter where some replica serves it."""
        name = engine_name(digest)
        if by_name and digest not in self._by_name:
            self._by_name.append(digest)
        lease = self._leases.take(digest)
        if by_name:
            await self._wait_for(digest, name)
        if self._somewhere(name):
            return lease
        lease.release()
        return None

    def model_on(self, address: Address, adapter: str | None, asked: str) -> str | None:
        """What to ask this replica for; None where it can't be had from it."""
        keeper = self._keepers[address.url]
        if adapter is None and (other := self._models.get(asked, self._served)) != self._served:
            return keeper.other(other)  # an alias for something else that this server has
        return keeper.model(engine_name(adapter) if adapter else None)

    @contextmanager
    def asking(self, address: Address, model: str) -> Iterator[None]:
        """One more reply by this model under way there."""
        with super().asking(address, model), self._keepers[address.url].asking(model):
            yield

    async def wire(self, address: Address, model: str, request: ChatRequest) -> Wire:
        """Plain text as a completion of token ids; all else as a chat, in whose texts no marker is one."""
        if model != self._served and not model.startswith(OURS):  # another model has a template of its own
            return await super().wire(address, model, request)
        template = await self._prompts.template()
        context = self._keepers[address.url].context or template.context
        if context and not self._by_chat and is_plain(request):
            room, date = prompt_tokens(request.body, context), self._preparing.template_date(model)
            ids = await self._prompts.ids(request.messages, room, context, date)
            if ids is not None:
                body = completion(request.body, ids, context, template.longest, template.ends)
                ends = template.ends - set(request.body.get("stop_token_ids") or ())
                return Wire("completions", body, ChatDocuments(stream=request.stream, ends=ends))
        return Wire(CHAT, {**request.body, "messages": await self._prompts.unmarked(request.messages)}, as_said)

    def missing(self, address: Address, model: str) -> bool:
        """The replica says that it has no such model, which was loaded there by us."""
        if model.startswith(OURS):
            self._keepers[address.url].forgot(model)
        return model.startswith(OURS)

    def why_not(self, digest: str) -> str | None:
        """As it was prepared, else as the replicas said."""
        name = engine_name(digest)
        said = [keeper.refused[name].why for keeper in self._keepers.values() if name in keeper.refused]
        return self._preparing.reasons.get(name) or "; ".join(said) or None

    def _somewhere(self, name: str) -> bool:
        return any(keeper.model(name) for keeper in self._keepers.values())

    async def _wait_for(self, digest: str, name: str) -> None:
        until_s = self._clock.monotonic_s() + WAIT_S
        while not self._somewhere(name) and self._clock.monotonic_s() < until_s:
            refused = all(name in keeper.refused for keeper in self._keepers.values() if keeper.away is None)
            if self._preparing.unusable(digest) or (refused and self._keepers):
                return
            await self._clock.sleep(LOOK_S / 4)

    async def _watch(self) -> None:
        while True:
            try:
                await self._look()
            except Exception as error:  # what is served goes on being served
                log.error("routing_not_followed", error=f"{type(error).__name__}: {error}"[:300])
            await self._clock.sleep(LOOK_S)

    async def _look(self) -> None:
        routing = self._router.routing()
        ours = self._needs(routing)
        all_needs = await asyncio.to_thread(self._neighbours.meet, ours)
        wanted = wanted_by(all_needs)
        coming = {digest for digest in fit(wanted, self._slots)[0] if not self._preparing.unusable(digest)}
        used = {digest for needs in all_needs for digest in needs.used}
        ready, names = self._preparing.ready(wanted), [engine_name(digest) for digest in used | coming]
        await asyncio.gather(*(keeper.look(ready, names) for keeper in self._keepers.values()))
        metrics.show_loaded(self.loaded, routing)
        await self._preparing.keep(lambda digest: digest in wanted or digest in used or self._used(digest))
        seen = {"replicas": self.state(), "unusable": self._preparing.reasons}
        if self._note is not None and seen != self._noted:
            await asyncio.to_thread(write_json, self._note, seen)
            self._noted = seen

    def _needs(self, routing: Routing | None) -> Needs:
        known = self._preparing.known
        named = routing.adapters.values() if routing is not None else known  # not known: nothing is let go of
        return Needs(
            routed=tuple(named),
            named=tuple(self._by_name),
            used=tuple(sorted(digest for digest in known if self._leases.held(digest))),
        )

    def _used(self, digest: str) -> bool:
        """Whether a reply is by it, or a replica may have it: its files have to stay."""
        name = engine_name(digest)
        return self._leases.held(digest) or any(keeper.may_have(name) for keeper in self._keepers.values())
