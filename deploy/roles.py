"""The four roles of a deployment, each as one coroutine that runs until it is told to stop."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable
from functools import partial

import structlog
from fastapi import APIRouter

from deploy import control_metrics, schedule
from deploy.admin import admin_app, serve
from deploy.admin_api import admin_router
from deploy.control import Control
from deploy.errors import Failed
from deploy.judging import ledger, make_ask
from deploy.schedule import Start
from deploy.settings import Settings
from deploy.spool import Spool
from deploy.state import State
from deploy.streaming import open_log, open_worker
from deploy.training import operations, seal_now, since_last, train
from feedback.edge import Edge
from streams import metrics as stream_metrics
from streams.log import Producer
from streams.router import Router
from streams.worker import tune_interpreter

REFRESH_S = 2.0
READY_S = 0.2
DRAIN_S = 5.0
"""How long a gateway that stops still sends what is in its spool."""

log = structlog.get_logger()


class Role:
    """What every role has: its state, its settings, its admin address, and why it is not ready yet."""

    def __init__(self, state: State, settings: Settings, control: Control, admin_host: str, admin_port: int) -> None:
        self.state, self.settings, self.control = state, settings, control
        self._admin = (admin_host, admin_port)
        self.waiting: str | None = "starting"

    async def run(self, stop: asyncio.Event, work: Awaitable[None], routers: tuple[APIRouter, ...] = ()) -> None:
        """Serve the admin port beside `work`; what ends first, or raises, ends both."""
        admin = asyncio.create_task(serve(admin_app(lambda: self.waiting, routers), *self._admin, stop))
        working = asyncio.ensure_future(work)
        await asyncio.wait([admin, working], return_when=asyncio.FIRST_COMPLETED)
        stop.set()
        await asyncio.wait([admin, working])  # what failed is raised once the other has ended in order
        await asyncio.gather(admin, working)


async def run_worker(role: Role, stop: asyncio.Event) -> None:
    """Events into facts, unrated turns to the judge."""
    await role.run(stop, _work(role, stop))


async def _work(role: Role, stop: asyncio.Event) -> None:
    state, settings = role.state, role.settings
    ask = make_ask(settings.judge, role.control)
    tune_interpreter()
    router = Router(settings.judge.grace_s) if ask is not None else None
    async with open_worker(
        open_log(state, settings), state, settings, Edge(state.secret("edge")), ask, router
    ) as worker:
        role.waiting = None
        while not stop.is_set():
            if worker.failed.done():
                worker.failed.result()
            if ask is not None:
                _tell_budget(role)
            await _pause(stop, REFRESH_S)


def _tell_budget(role: Role) -> None:
    judge = role.settings.judge
    spent = ledger(judge, role.control).spent(time.time_ns() // 1000)
    stream_metrics.JUDGE_BUDGET_REMAINING_USD.labels(period="hour").set(judge.usd_per_hour - spent.hour_usd)
    stream_metrics.JUDGE_BUDGET_REMAINING_USD.labels(period="day").set(judge.usd_per_day - spent.day_usd)


async def run_trainer(role: Role, stop: asyncio.Event) -> None:
    """Retrain when the rules say so, one training at a time."""
    await role.run(stop, _train_when_due(role, stop))


async def _train_when_due(role: Role, stop: asyncio.Event) -> None:
    role.waiting = None
    cancelled = threading.Event()
    while not stop.is_set():
        due = await asyncio.to_thread(_due, role)
        if due is not None:
            training = asyncio.create_task(asyncio.to_thread(_train_now, role, due, cancelled))
            stopping = asyncio.create_task(stop.wait())
            await asyncio.wait([training, stopping], return_when=asyncio.FIRST_COMPLETED)
            stopping.cancel()
            if stop.is_set():
                cancelled.set()  # the job stops within seconds and resumes at its checkpoints next time
            await training
        await _pause(stop, role.settings.train.check_every_s)


def _due(role: Role) -> str | None:
    """The reason to train now; None to wait (also for a person's yes)."""
    settings, trainings, now_us = role.settings, role.control.trainings, time.time_ns() // 1000
    decided = schedule.decide(since_last(role.state, role.control), settings.train, settings.approve, now_us)
    if not isinstance(decided, Start):
        return None
    if decided.needs_yes and not trainings.use_approval(now_us, settings.approve.expires_s * 1_000_000):
        request = trainings.request(decided.reason, now_us)
        log.info("training_wants_approval", request=request.name, reason=request.reason)
        return None
    return decided.reason


def _train_now(role: Role, reason: str, cancelled: threading.Event) -> None:
    try:
        log.info("training_started", reason=reason)
        sealed = seal_now(role.state, role.settings)
        digest = train(role.state, role.settings, role.control, sealed, reason, lambda *_: None, cancelled)
        log.info("training_done", candidate=digest[:16])
    except Failed as error:  # recorded with its reason; the schedule backs off
        log.error("training_failed", error=str(error))


async def run_controller(role: Role, stop: asyncio.Event, require_keys: bool) -> None:
    """The admin API and the figures of candidates, trainings and the rollout."""
    rules = operations(role.state, role.settings, role.control)
    await role.run(stop, _watch(role, stop), (admin_router(rules, require_keys=require_keys),))


async def _watch(role: Role, stop: asyncio.Event) -> None:
    rules = operations(role.state, role.settings, role.control)
    while not stop.is_set():
        for problem in await asyncio.to_thread(rules.discover):
            log.warning("candidate_unusable", problem=problem)
        await asyncio.to_thread(control_metrics.refresh, role.control, time.time_ns() // 1000)
        role.waiting = None
        await _pause(stop, REFRESH_S)


async def run_gateway(role: Role, stop: asyncio.Event, host: str, port: int, require_keys: bool) -> None:
    """The OpenAI-compatible front door."""
    await role.run(stop, _serve_chats(role, stop, host, port, require_keys))


async def _serve_chats(role: Role, stop: asyncio.Event, host: str, port: int, require_keys: bool) -> None:
    # only the gateway's process pays for the model libraries
    from deploy.engines import open_engines
    from deploy.gateway import gateway_app

    state, settings = role.state, role.settings
    engines = open_engines(settings, state.root, state.candidates, role.control)
    spool = Spool(state.spool, settings.gateway.spool_bytes)
    app = gateway_app(
        settings,
        role.control,
        Edge(state.secret("edge")),
        spool,
        engines,
        state.secret("turns"),
        require_keys=require_keys,
    )
    await engines.start()
    sending = asyncio.create_task(spool.run(partial(_producer, state, settings)))
    serving = asyncio.create_task(serve(app, host, port, stop))
    try:
        while not stop.is_set() and not serving.done():
            role.waiting = engines.ready()
            await _pause(stop, READY_S)
        await serving
    finally:
        await engines.stop()
        if not await spool.drained(DRAIN_S):
            log.warning("spool_kept", records=spool.records, sent="when the gateway starts again")
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
        await spool.close()


def _producer(state: State, settings: Settings) -> Producer:
    """A way onto the log, once its topics are as they should be. Raises Failed."""
    events = open_log(state, settings)
    producer = events.producer()
    if settings.broker.on_kafka:  # its producer has a connection of its own; the embedded log's writes through it
        events.close()
    return producer


async def _pause(stop: asyncio.Event, seconds: float) -> None:
    try:
        await asyncio.wait_for(stop.wait(), seconds)
    except TimeoutError:
        return
