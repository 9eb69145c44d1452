"""From facts to a registered candidate: seal a snapshot, run the job, let the gate decide. And when to do so by itself."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path

import pyarrow.compute as pc

from deploy.control.store import Control
from deploy.errors import Failed
from deploy.parts import operations
from deploy.rules.schedule import Since
from deploy.settings import Settings
from deploy.state import State
from deploy.training.job import Job, Progress, Stopped, run_job
from feedback.clock import Clock
from feedback.dataset import snapshot
from feedback.dataset.snapshot import Snapshot
from feedback.facts.reader import Facts
from feedback.facts.tables import EVENT_TABLES
from models.spec import TrainingSpec

LABELS = ("thumbs", "stars", "pick", "edit", "score", "signal")
"""Kinds of rating that count as new labels by people; a comment trains nothing."""


ABANDONED_S = 7 * 86_400


def seal_now(state: State, settings: Settings, as_of_us: int) -> Snapshot:
    """Seal the facts as of a moment."""
    facts = Facts(state.facts)
    with facts.pinned():
        return snapshot.seal(facts, as_of_us, settings.window, state.snapshots)


def newest_event_us(facts: Facts) -> int:
    """The time of the newest turn or rating: the moment as of which a replay seals. Raises Failed without any."""
    times = [pc.max(facts.columns(name, ["occurred_at_us"]).column("occurred_at_us")).as_py() for name in EVENT_TABLES]
    known = [at_us for at_us in times if at_us is not None]
    if not known:
        raise Failed("there is no event among the facts: `trimtab dead-letters ls` says what was wrong with those read")
    return int(max(known))


def labels_in(sealed: Snapshot) -> int:
    """Rows of a snapshot that a training learns from."""
    return sum(count for table, count in sealed.manifest.rows.items() if table != "turns")


def train(
    state: State,
    settings: Settings,
    control: Control,
    clock: Clock,
    sealed: Snapshot,
    reason: str,
    progress: Progress,
    cancelled: threading.Event | None = None,
    job: Job = run_job,
) -> str:
    """Train on a snapshot and register the candidate; returns its digest. One at a time: raises Refused while another training runs.

    The same snapshot and settings lead to the same candidate: a finished training is found again, a killed one resumed.
    """
    if labels_in(sealed) < settings.train.min_labels:
        raise Failed(
            f"the snapshot {sealed.name} has {labels_in(sealed)} labels, a training is worth it from "
            f"{settings.train.min_labels} on (train.min_labels): collect ratings first"
        )
    with state.lock("training"):
        _clear_abandoned(state.work, clock.now_us())
        started = control.trainings.start(reason, clock.now_us(), sealed.name)
        try:
            path = job(_spec(state, settings, control, sealed), settings.train.time_limit_s, progress, clock, cancelled)
            digest = path.name
            operations(state, settings, control, clock).register(digest)
        except Stopped as error:
            control.trainings.end(started, "stopped", clock.now_us(), error=str(error))
            raise
        except Failed as error:
            control.trainings.end(started, "failed", clock.now_us(), error=str(error))
            raise
        except BaseException:
            control.trainings.end(started, "stopped", clock.now_us(), error="stopped from outside")
            raise
        control.trainings.end(started, "done", clock.now_us(), candidate=digest)
    return digest


def since_last(state: State, control: Control) -> Since:
    """What the rules of `schedule.decide` want to know."""
    last = next(iter(control.trainings.list(1)), None)
    done = [training for training in control.trainings.list(1_000) if training.outcome == "done"]
    since_us = done[0].started_at_us if done else 0
    human, verdicts = Facts(state.facts).labels_since(since_us, LABELS)
    all_human, all_verdicts = (human, verdicts) if not since_us else Facts(state.facts).labels_since(0, LABELS)
    return Since(
        last_started_us=last.started_at_us if last else None,
        last_ended_us=last.ended_at_us if last else None,
        failures_in_a_row=control.trainings.failures_in_a_row(),
        new_human_labels=human,
        new_verdicts=verdicts,
        labels=all_human + all_verdicts,
    )


def _clear_abandoned(work: Path, now_us: int) -> None:
    """Remove the checkpoints of trainings that nobody took up again for a week."""
    for folder in work.iterdir():
        finished = (folder / "result.json").exists()
        if folder.is_dir() and not finished and now_us / 1e6 - folder.stat().st_mtime > ABANDONED_S:
            shutil.rmtree(folder)


def _spec(state: State, settings: Settings, control: Control, sealed: Snapshot) -> TrainingSpec:
    incumbent = control.routing().incumbent
    return TrainingSpec(
        snapshot=str(sealed.path),
        state=str(state.root),
        base=settings.base,
        tiny=settings.tiny,
        reward=settings.reward,
        policy=settings.policy,
        incumbent=str(state.candidates / incumbent) if incumbent else None,
    )
