"""The gateway: the OpenAI-compatible front door, its engine and its spool, started and stopped in order."""

from __future__ import annotations

import asyncio
import atexit
import gc
from collections.abc import Callable
from functools import partial
from socket import socket

import structlog

from deploy.control.store import Control
from deploy.gateway.control_link import STATEMENT_S, ControlLink
from deploy.gateway.orphans import take_over
from deploy.gateway.spool import Spool
from deploy.parts import engines_differ, link_to, note_engine, open_log
from deploy.roles.role import Role
from deploy.web.health import Health, health_router
from deploy.web.serving import Limits, serve
from feedback.intake.edge import Edge
from streams.log import Producer

READY_S = 0.2
log = structlog.get_logger()


def settle() -> None:
    """Once this process serves: what is there now stays, and is not looked through for garbage any more.

    That holds up every chat, for 0.2 s where torch is loaded. At the end it may go: torch complains of what is left.
    """
    gc.collect()
    gc.freeze()
    atexit.register(gc.unfreeze)


async def run_gateway(
    role: Role,
    stop: asyncio.Event,
    listening: socket,
    require_keys: bool,
    when_ready: Callable[[], object] = lambda: None,
) -> None:
    """The OpenAI-compatible front door."""
    await role.run(stop, _serve_chats(role, stop, listening, require_keys, when_ready))


async def _serve_chats(
    role: Role, stop: asyncio.Event, listening: socket, require_keys: bool, when_ready: Callable[[], object]
) -> None:
    # only the gateway's process pays for the model libraries
    from deploy.engine.opening import open_engine
    from deploy.gateway.app import gateway_app, pages

    state, settings = role.state, role.settings
    control = Control(role.control.database.within(STATEMENT_S))
    link = ControlLink(control, role.clock)
    engine = open_engine(settings, state, link, role.clock, role.seat)
    note_engine(state, settings, role.seat)
    if (why := engines_differ(state)) is not None:
        log.warning("engines_differ", error=why)
    spool = Spool(state.spool(role.seat), settings.gateway.spool_bytes, role.clock)
    app = gateway_app(
        settings,
        link,
        Edge(state.secret("edge")),
        spool,
        engine,
        state.secret("turns"),
        role.clock,
        require_keys=require_keys,
    )
    role.duties["chat"] = lambda: engine.ready() or (link.missing() if link.routing() is None else None)
    role.duties["intake"] = lambda: spool.why_full
    app.include_router(health_router(Health(lambda: role.waiting, role.duties, role.others), say_why=False))
    await link.start()
    await engine.start()
    sending = asyncio.create_task(spool.run(partial(_producer, role)))
    taking_over = asyncio.create_task(take_over(state, spool, role.clock))
    takes, names = settings.gateway, settings.access.host_names
    limits = Limits(takes.max_connections, takes.keep_alive_s, takes.max_request_bytes, at_once=False)
    serving = asyncio.create_task(serve(app, listening, stop, role.finish_s, role.clock, limits, pages(takes), names))
    begun = False
    try:
        while not stop.is_set() and not serving.done():
            role.waiting = engine.ready() or link.missing()
            if not begun and role.waiting is None:
                begun = True
                when_ready()
            await role.clock.wait(stop, READY_S)
        engine.drain()
        await serving
    finally:
        await engine.stop()
        taking_over.cancel()
        await asyncio.gather(taking_over, return_exceptions=True)
        if not await spool.drained(role.rest_s / 2):
            log.warning("spool_kept", records=spool.records, sent="by the next gateway that runs")
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
        await spool.close()
        await link.stop()
        control.close()


def _producer(role: Role) -> Producer:
    """A way onto the log, once its topics are as they should be. Raises Failed."""
    events = open_log(role.state, role.settings, role.clock)
    producer = link_to(events, role.clock).producer()
    if role.settings.broker.on_kafka:  # its producer has a connection of its own; the embedded log's writes through it
        events.close()
    return producer
