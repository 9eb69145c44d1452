"""The public port: an OpenAI-compatible front door whose replies are logged and can be rated."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from importlib.metadata import version

from fastapi import FastAPI
from starlette.types import ASGIApp, Receive, Scope, Send

from deploy.engine.port import Engine
from deploy.gateway.chat import ADAPTER_HEADER, PATH, TURN_HEADER, Chats, chat_router
from deploy.gateway.control_link import ControlLink
from deploy.gateway.dispatch import Dispatcher
from deploy.gateway.event_log import EventLog, Outbox
from deploy.gateway.events import events_router
from deploy.gateway.feedback import IDEMPOTENCY_HEADER, feedback_router
from deploy.gateway.identity import HEADER
from deploy.gateway.labelling import label_router
from deploy.gateway.redaction import Redaction
from deploy.gateway.shadowing import ShadowTurns
from deploy.gateway.turn_ids import TurnIds
from deploy.serving_settings import GatewaySettings
from deploy.settings import Settings
from deploy.web.callers import Callers
from deploy.web.cors import allow_pages
from deploy.web.errors import install
from feedback.clock import Clock
from feedback.intake.edge import Edge


def gateway_app(
    settings: Settings,
    control: ControlLink,
    edge: Edge,
    spool: Outbox,
    engine: Engine,
    key: bytes,
    clock: Clock,
    *,
    require_keys: bool,
) -> PublicPort:
    """The app. `key` seals turn ids and must be the same for every gateway of a deployment.

    Without `require_keys` it must be bound to loopback. The caller starts `engine` before and stops it, and then the
    spool, after the app has been shut down.
    """
    turn_ids, redaction = TurnIds(key), Redaction(edge, clock)
    events = EventLog(spool, clock, redaction)
    callers = Callers(
        control,
        clock,
        require_keys=require_keys,
        trust_loopback=settings.access.trust_loopback,
        origins=settings.gateway.cors_origins,
        per_minute=settings.gateway.requests_per_minute,
        trusted_proxies=settings.gateway.trusted_proxies,
    )
    shadow = ShadowTurns(settings, control, engine, redaction, clock)
    dispatcher = Dispatcher(settings.gateway, control, engine, events, turn_ids, shadow, clock)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await dispatcher.drain()
        await redaction.close()

    app = PublicPort(
        title="Trimtab", version=version("trimtab"), docs_url=None, redoc_url=None, openapi_url=None, lifespan=lifespan
    )
    install(app)
    app.chats = Chats(dispatcher, callers, clock)
    app.include_router(chat_router(dispatcher, callers, app.chats))
    app.include_router(feedback_router(settings.gateway, callers, events, redaction, turn_ids, clock))
    app.include_router(events_router(settings.gateway, callers, events, redaction, clock))
    app.include_router(label_router(settings, control, callers, clock))
    return app


class PublicPort(FastAPI):
    """Chats take the short way, past what FastAPI puts around everything else."""

    chats: Chats

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] == PATH and scope["method"] == "POST":
            await self.chats(scope, receive, send)
        else:
            await super().__call__(scope, receive, send)


def pages(settings: GatewaySettings) -> Callable[[ASGIApp], ASGIApp]:
    """What lets web pages in, to be put around the port."""
    sent, read = [IDEMPOTENCY_HEADER, HEADER], [TURN_HEADER, HEADER, ADAPTER_HEADER]
    return partial(allow_pages, origins=settings.cors_origins, sent=sent, read=read)
