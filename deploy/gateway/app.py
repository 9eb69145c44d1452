"""The public port: an OpenAI-compatible front door whose replies are logged and can be rated."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version

from fastapi import FastAPI

from deploy.engine.port import Engine
from deploy.gateway.chat import ADAPTER_HEADER, TURN_HEADER, chat_router
from deploy.gateway.control_link import ControlLink
from deploy.gateway.dispatch import Dispatcher
from deploy.gateway.event_log import EventLog, Outbox
from deploy.gateway.events import events_router
from deploy.gateway.feedback import IDEMPOTENCY_HEADER, feedback_router
from deploy.gateway.identity import HEADER
from deploy.gateway.redaction import Redaction
from deploy.gateway.turn_ids import TurnIds
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
) -> FastAPI:
    """The app. `key` seals turn ids and must be the same for every gateway of a deployment.

    Without `require_keys` it must be bound to loopback. The caller starts `engine` before and stops it, and then the
    spool, after the app has been shut down.
    """
    turn_ids, redaction = TurnIds(key), Redaction(edge, clock)
    events = EventLog(spool, clock, redaction)
    origins = settings.gateway.cors_origins
    callers = Callers(
        control,
        clock,
        require_keys=require_keys,
        origins=origins,
        per_minute=settings.gateway.requests_per_minute,
        trusted_proxies=settings.gateway.trusted_proxies,
    )
    dispatcher = Dispatcher(settings.gateway, control, engine, events, turn_ids, clock)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await dispatcher.drain()
        await redaction.close()

    app = FastAPI(
        title="Trimtab", version=version("trimtab"), docs_url=None, redoc_url=None, openapi_url=None, lifespan=lifespan
    )
    install(app)
    app.include_router(chat_router(dispatcher, callers, clock))
    app.include_router(feedback_router(settings.gateway, callers, events, redaction, turn_ids, clock))
    app.include_router(events_router(settings.gateway, callers, events, redaction, clock))
    allow_pages(app, origins, sent=[IDEMPOTENCY_HEADER, HEADER], read=[TURN_HEADER, HEADER, ADAPTER_HEADER])
    return app
