"""A gateway on a real server: real control database, fake engine, log in memory."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from openai import AsyncOpenAI
from starlette.types import ASGIApp

from deploy.control.store import Control
from deploy.decisions.operations import Operations
from deploy.engine.adapters import LocalEngines
from deploy.engine.opening import open_engine
from deploy.engine.remote.engine import RemoteEngine
from deploy.gateway.app import gateway_app, pages
from deploy.gateway.control_link import ControlLink
from deploy.serving_settings import EngineSettings, GatewaySettings, ShadowSettings
from deploy.settings import AccessSettings, Settings
from deploy.state import State
from deploy.web.serving import listen, serve
from feedback.intake.edge import Edge
from models.bases import Base
from tests.deploy.candidates import make_candidate
from tests.fakes import BASE, CLOCK, FakeEngine, MemoryProducer, until

KEY = b"gateway key"
NOW_US = 1_800_000_000_000_000


@dataclass
class Gateway:
    """A running gateway, and what stands behind it."""

    url: str
    control: Control
    engine: FakeEngine
    engines: LocalEngines | RemoteEngine
    producer: MemoryProducer
    edge: Edge = field(default_factory=lambda: Edge(KEY))
    clients: list[AsyncOpenAI] = field(default_factory=list)
    link: ControlLink | None = None

    def openai(self, key: str = "anything", **options: Any) -> AsyncOpenAI:
        """OpenAI's own client, as anybody would set it up."""
        self.clients.append(AsyncOpenAI(base_url=f"{self.url}/v1", api_key=key, max_retries=0, **options))
        return self.clients[-1]

    def http(self, key: str | None = None, **headers: str) -> httpx.AsyncClient:
        """A bare client."""
        if key is not None:
            headers["authorization"] = f"Bearer {key}"
        return httpx.AsyncClient(base_url=self.url, headers=headers, timeout=60)

    def events(self) -> list[dict[str, Any]]:
        """What was logged, as JSON."""
        return [json.loads(record.value) for record in self.producer.records]

    async def logged(self, count: int = 1) -> list[dict[str, Any]]:
        """The logged events, once there are so many."""
        await until(lambda: len(self.producer.records) >= count, f"{count} logged events")
        return self.events()

    async def caught_up(self) -> None:
        """Once it knows who serves now."""
        assert self.link is not None
        await caught_up(self.link, self.control)

    def new_key(self, *scopes: str, tenant: str | None = "acme") -> str:
        """The token of a new key."""
        return self.control.keys.create("app", tenant, scopes, "ada", NOW_US)[0]


async def caught_up(link: ControlLink, control: Control) -> None:
    """Once the link knows who serves now."""
    await until(lambda: link.routing() == control.routing())


@asynccontextmanager
async def served(app: ASGIApp, around: Callable[[ASGIApp], ASGIApp] = lambda app: app) -> AsyncIterator[str]:
    """Serve an app on a port of its own; yields its URL."""
    listening, stop = listen("127.0.0.1", 0), asyncio.Event()
    serving = asyncio.create_task(serve(app, listening, stop, 5.0, CLOCK, around=around))
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        stop.set()
        await serving


@asynccontextmanager
async def running(
    control: Control,
    candidates: Path,
    *,
    base: Base | None = BASE,
    require_keys: bool = False,
    trust_loopback: bool = False,
    queue: int = 64,
    remote: EngineSettings | None = None,
    opened: RemoteEngine | None = None,
    shadow: ShadowSettings | None = None,
    engine: FakeEngine | None = None,
    **options: Any,
) -> AsyncIterator[Gateway]:
    """A gateway with these settings, ready to serve (without a base: to say so); in front of this engine, `remote` or `opened`."""
    engine, producer = engine or FakeEngine(), MemoryProducer()
    link = ControlLink(control, CLOCK)
    settings = Settings(
        gateway=GatewaySettings(queue=queue, **options),
        engine=remote or EngineSettings(),
        access=AccessSettings(trust_loopback=trust_loopback),
        shadow=shadow or ShadowSettings(),
    )
    engines: LocalEngines | RemoteEngine
    if remote is not None:
        made = open_engine(settings, State(candidates.parent), link, CLOCK)
        assert isinstance(made, RemoteEngine)
        opened = made
    if opened is not None:
        engines = opened
    else:
        engines = LocalEngines(lambda: base, candidates, link, queue=queue, make=lambda _: engine, clock=CLOCK)
    app = gateway_app(settings, link, Edge(KEY), producer, engines, KEY, CLOCK, require_keys=require_keys)
    loading = engines.ready()
    await link.start()
    await engines.start()
    await until(lambda: link.missing() is None)
    if opened is None:
        await until(lambda: engines.ready() != loading)
    elif remote is None:
        await until(lambda: engines.ready() is None)
    async with served(app, pages(settings.gateway)) as url:
        gateway = Gateway(url, control, engine, engines, producer, link=link)
        yield gateway
        for client in gateway.clients:
            await client.close()
        engine.go.set()
        producer.go.set()
    await engines.stop()
    await link.stop()


def canary(rules: Operations, folder: Path, number: int = 1) -> str:
    """A registered candidate that gets half of the conversations."""
    digest = make_candidate(folder, number)
    _begin(rules, digest)
    while rules.serving()["rollout"]["share"] < 0.5:
        rules.promote(actor="ada")
    return digest


def incumbent(rules: Operations, folder: Path, number: int = 1) -> str:
    """A candidate that was rolled out in full."""
    return full(rules, make_candidate(folder, number))


def full(rules: Operations, digest: str) -> str:
    """Roll this candidate out in full."""
    _begin(rules, digest)
    while rules.serving()["rollout"]:
        rules.promote(actor="ada")
    return digest


def _begin(rules: Operations, digest: str) -> None:
    rules.register(digest)
    evidence = rules.show(digest)["evidence"]
    rules.approve(digest, evidence=evidence, reason="reads well", actor="ada", override_hold=True)
