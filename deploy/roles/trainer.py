"""The trainer: retrain when the rules say so, one training at a time."""

from __future__ import annotations

import asyncio
import threading

import structlog

from deploy.errors import Failed
from deploy.parts import engine_in_use
from deploy.roles.role import Role
from deploy.rules import schedule
from deploy.rules.names import short
from deploy.rules.schedule import NOT_TRAINED, Start
from deploy.settings import ApproveSettings
from deploy.training.job import Job, run_job
from deploy.training.train import as_before, labels_in, seal_now, since_in, since_sealed, train
from feedback.dataset import snapshot
from feedback.facts.reader import Facts

log = structlog.get_logger()


async def run_trainer(role: Role, stop: asyncio.Event, job: Job = run_job) -> None:
    """Retrain when the rules say so, one training at a time, each done by `job`."""
    await role.run(stop, _train_when_due(role, stop, job))


async def _train_when_due(role: Role, stop: asyncio.Event, job: Job) -> None:
    role.waiting = None
    cancelled = threading.Event()
    while not stop.is_set():
        due = await asyncio.to_thread(_due, role)
        if due is not None:
            training = asyncio.create_task(asyncio.to_thread(_train_now, role, due, cancelled, job))
            stopping = asyncio.create_task(stop.wait())
            await asyncio.wait([training, stopping], return_when=asyncio.FIRST_COMPLETED)
            stopping.cancel()
            if stop.is_set():
                cancelled.set()  # the job stops within seconds and resumes at its checkpoints next time
            await training
        await role.clock.wait(stop, role.settings.train.check_every_s)


def _due(role: Role) -> str | None:
    """The reason to train now; None to wait (also for a person's yes)."""
    settings, trainings, now_us = role.settings, role.control.trainings, role.clock.now_us()
    if not engine_in_use(role.state, settings.engine).takes_adapters:
        _seal_when_due(role)
        return None
    with Facts(role.state.facts).pinned() as facts:
        decided = schedule.decide(since_in(facts, role.control, now_us), settings.train, settings.approve, now_us)
        if not isinstance(decided, Start):
            return None
        if decided.needs_yes and not trainings.use_approval(now_us, settings.approve.expires_s * 1_000_000):
            request = trainings.request(decided.reason, now_us, facts.positions())
            log.info("training_wants_approval", request=request.name, reason=request.reason)
            return None
    return decided.reason


def _seal_when_due(role: Role) -> None:
    """What a training would learn from, sealed when one would be due by what came in since the newest snapshot."""
    now_us = role.clock.now_us()
    with Facts(role.state.facts).pinned() as facts:
        since = since_sealed(facts, snapshot.list_snapshots(role.state.snapshots), now_us)
    decided = schedule.decide(since, role.settings.train, ApproveSettings(before=()), now_us)
    if isinstance(decided, Start):
        sealed = seal_now(role.state, role.settings, now_us)
        log.info(
            "sealed", snapshot=sealed.name, labels=labels_in(sealed), reason=decided.reason, why_no_training=NOT_TRAINED
        )


def _train_now(role: Role, reason: str, cancelled: threading.Event, job: Job) -> None:
    try:
        log.info("training_started", reason=reason)
        sealed = as_before(role.state, role.control, seal_now(role.state, role.settings, role.clock.now_us()))
        where = (role.state, role.settings, role.control, role.clock)
        digest = train(*where, sealed, reason, lambda *_: None, cancelled, job)
        log.info("training_done", candidate=short(digest))
    except Failed as error:  # recorded with its reason; the schedule backs off
        log.error("training_failed", error=str(error))
