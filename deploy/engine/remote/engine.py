"""Any OpenAI-compatible server or hosted API as an engine: requests and answers pass through. It takes no adapters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import aiohttp
import structlog

from deploy.engine.leases import Lease, Seat
from deploy.engine.port import ChatRequest, NotReady, Overloaded
from deploy.engine.remote.answer import AWAY, Asked, Patience, RemoteAnswer, Wire
from deploy.engine.remote.replicas import Replica, Replicas
from deploy.engine.thread import STOPPING
from feedback.clock import Clock
from models.adapters import engine_name

CONNECT_S = 5.0
IDLE_S = 4.0
"""How long a connection is kept for the next request: uvicorn's servers end it after 5 s, it may be just as one is sent."""

CHAT = "chat/completions"
TAKES_NONE = "this engine takes no adapters"

log = structlog.get_logger()


class RemoteEngine:
    """deploy.engine.port.Engine over HTTP. Belongs to one event loop.

    `models` maps the names that clients ask for to what the engine calls them, first what is served. At most `limit` requests are under way.
    """

    def __init__(
        self,
        urls: Sequence[str],
        models: Mapping[str, str],
        key: str | None,
        patience: Patience,
        limit: int,
        clock: Clock,
    ) -> None:
        self.replicas = Replicas([url.rstrip("/") for url in urls], clock)
        self._models, self._key, self._patience = dict(models), key, patience
        self._served = next(iter(self._models.values()))
        self._limit, self._clock = limit, clock
        self._session: aiohttp.ClientSession | None = None
        self._under_way = 0
        self._draining = False
        self._refused: set[str] = set()

    @property
    def loaded(self) -> frozenset[str]:
        """None: this engine takes no adapters."""
        return frozenset()

    @property
    def names(self) -> Sequence[str]:
        """What clients may ask for."""
        return tuple(self._models)

    def base(self, model: str) -> str:
        """What the engine calls it."""
        return self._models.get(model, self._served)

    def why_not(self, digest: str) -> str | None:
        """The same for all of them."""
        return TAKES_NONE

    def ready(self) -> str | None:
        """None when it can be asked."""
        if self._draining:
            return STOPPING
        return f"the engine can't be reached: {self.replicas.away}" if self.replicas.away else None

    @property
    def idle(self) -> bool:
        """Whether less than half of `limit` is under way from here."""
        return 2 * self._under_way < self._limit

    async def start(self) -> None:
        """Nothing is asked before the first chat."""
        headers = {"content-type": "application/json"} | ({"authorization": f"Bearer {self._key}"} if self._key else {})
        self._session = aiohttp.ClientSession(
            headers=headers,
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=IDLE_S),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S),
            cookie_jar=aiohttp.DummyCookieJar(),
        )

    def admit(self) -> RemotePlace:
        """A place for one request. Raises NotReady, Overloaded."""
        if self._draining or self.replicas.away:  # where it was looked for is for the operator
            raise NotReady(STOPPING if self._draining else AWAY)
        if self._under_way >= self._limit:
            raise Overloaded(f"{self._limit} requests are under way")
        self._under_way += 1
        return RemotePlace(self)

    def drain(self) -> None:
        """Take no more."""
        self._draining = True

    async def stop(self) -> None:
        """End the connections."""
        self._draining = True
        if self._session is not None:
            await self._session.close()

    def leave(self) -> None:
        """A place is given back."""
        self._under_way -= 1

    async def hold(self, digest: str, *, by_name: bool) -> Lease | None:
        """None: this engine takes no adapters."""
        if digest not in self._refused:  # said once of each
            self._refused.add(digest)
            log.warning("adapter_not_loaded", adapter=engine_name(digest), error=TAKES_NONE)
        return None

    def model_on(self, address: Replica, adapter: str | None, asked: str) -> str | None:
        """What to ask this address for; None where it can't be had from it."""
        return self.base(asked)

    def asking(self, address: Replica, model: str) -> AbstractContextManager[None]:
        """One more reply by this model under way there."""
        return self.replicas.asking(address)

    async def wire(self, address: Replica, model: str, request: ChatRequest) -> Wire:
        """As it was asked for."""
        return Wire(CHAT, request.body, as_said)

    def missing(self, address: Replica, model: str) -> bool:
        """The address says that it has no such model. Whether another may have it; else that is for the client to hear."""
        return False

    def answer(self, request: ChatRequest, lease: Lease | None) -> RemoteAnswer:
        """Not yet asked for. The lease is the answer's from here on."""
        if self._session is None or self._draining:
            raise NotReady(STOPPING)

        def ended() -> None:
            self.leave()
            if lease is not None:
                lease.release()

        asked = Asked(request, lease.digest if lease is not None else None, ended)
        return RemoteAnswer(self._session, self, asked, self._patience, self._clock)


def as_said(document: dict[str, Any]) -> dict[str, Any]:
    """A chat's documents need no reading."""
    return document


class RemotePlace(Seat):
    """deploy.engine.port.Place, made by `RemoteEngine.admit`."""

    def __init__(self, engine: RemoteEngine) -> None:
        super().__init__(engine.hold)
        self._engine = engine

    async def check(self, request: ChatRequest) -> None:
        """What it can't answer it says itself."""

    def begin(self, request: ChatRequest) -> RemoteAnswer:
        """The answer; the place is its now."""
        answer = self._engine.answer(request, self._lease)
        self.taken()
        return answer

    def leave(self) -> None:
        """One request less under way."""
        self._engine.leave()
