"""From facts to a registered candidate: seal a snapshot, run the job, let the gate decide. And when to do so by itself."""

from __future__ import annotations

import json
import math
import os
import shutil
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pyarrow.compute as pc
from msgspec import to_builtins

from deploy.control.store import Control
from deploy.control.trainings import Training
from deploy.errors import Failed
from deploy.parts import operations
from deploy.rules.elapsed import AHEAD_S, elapsed_s
from deploy.rules.schedule import Rejected, Since
from deploy.settings import Settings
from deploy.state import State
from deploy.training.job import Job, Progress, Stopped, run_job
from deploy.training.noting import Noting
from feedback.clock import Clock
from feedback.dataset import snapshot
from feedback.dataset.snapshot import Manifest, Snapshot, SnapshotError
from feedback.facts.reader import Facts, Positions
from feedback.facts.tables import EVENT_TABLES
from models.adapters import verify
from models.bases import find_base
from models.errors import AdapterInvalid, JobFailed
from models.spec import RESULT, TrainingSpec

LABELS = ("thumbs", "stars", "pick", "edit", "score", "signal")
"""Kinds of rating that count as new labels by people; a comment trains nothing."""


ABANDONED_S = 7 * 86_400


class Sealed(Snapshot, frozen=True):
    """A snapshot, and how far the facts went of which it was made: what lies beyond is new to the next one."""

    positions: Positions


def seal_now(state: State, settings: Settings, as_of_us: int) -> Sealed:
    """Seal the facts as of a moment: those that are there now, whatever comes in meanwhile."""
    with Facts(state.facts).pinned() as facts:
        sealed = snapshot.seal(facts, as_of_us, settings.window, state.snapshots)
        return Sealed(sealed.path, sealed.manifest, facts.positions())


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


def as_before(state: State, control: Control, sealed: Sealed) -> Sealed:
    """The snapshot of the last training, or of the last that was done, where it holds the same rows as this one.

    A snapshot's hash has its moment in it, and results and checkpoints go by that hash: where nothing but time has gone by,
    a training goes on with the snapshot that it began with.
    """
    trainings = (*control.trainings.list(1), control.trainings.last_done())
    for name in dict.fromkeys(training.snapshot for training in trainings if training and training.snapshot):
        try:
            path = state.snapshots / name
            earlier = snapshot.load_manifest(path)
            if earlier.rules_version == sealed.manifest.rules_version and _same_rows(path, sealed.path):
                return Sealed(path, earlier, sealed.positions)
        except SnapshotError:  # gone, or damaged
            continue
    return sealed


def _same_rows(before: Path, after: Path) -> bool:
    return not any(sum(to_builtins(change).values()) for change in snapshot.diff(before, after).values())


def nothing_new(state: State, settings: Settings, control: Control, sealed: Sealed) -> str | None:
    """The digest of the last candidate that was trained, where another training would end in the same one: the same rows,
    settings and base. What it is compared with may be another by now: the adapter does not depend on it. Else None."""
    last = control.trainings.last_done()
    if last is None or last.snapshot != sealed.name or _report_of_like(state, settings, control, last) is None:
        return None
    return last.candidate


def earlier_seconds(state: State, settings: Settings, control: Control) -> Mapping[str, float]:
    """How long each phase of the last training took that had these settings and this base; empty where it had others."""
    last = control.trainings.last_done()
    report = _report_of_like(state, settings, control, last) if last else None
    return report["seconds"] if report else {}


def _report_of_like(state: State, settings: Settings, control: Control, last: Training) -> dict[str, Any] | None:
    """The report of what that training led to, where it had these settings and this base."""
    if last.candidate is None or last.snapshot is None:
        return None
    path = state.candidates / last.candidate
    try:
        report: dict[str, Any] = json.loads((path / "report.json").read_bytes())
        sealed = Snapshot(state.snapshots / last.snapshot, snapshot.load_manifest(state.snapshots / last.snapshot))
        spec = msgspec.structs.replace(_spec(state, settings, control, sealed), incumbent=report["incumbent"])
        base = find_base(spec.base, spec.tiny, state.root)
        if base is None or not verify(path, last.candidate).fits(base):
            return None
        result = json.loads((spec.work(sealed.dataset_hash) / RESULT).read_bytes())["candidate"]
    except (OSError, ValueError, KeyError, TypeError, SnapshotError, AdapterInvalid, JobFailed):
        return None  # whatever it is, a training says it
    return report if result == last.candidate else None


def forget(state: State, settings: Settings, control: Control, sealed: Sealed) -> None:
    """Have the next training of this snapshot begin from nothing, though its result is known."""
    work = _spec(state, settings, control, sealed).work(sealed.dataset_hash)
    if (work / RESULT).exists():
        shutil.rmtree(work)


def train(
    state: State,
    settings: Settings,
    control: Control,
    clock: Clock,
    sealed: Sealed,
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
        started = control.trainings.start(reason, clock.now_us(), sealed.name, sealed.positions)
        try:
            noting = Noting(state.work, started, earlier_seconds(state, settings, control), progress, clock)
            path = job(_spec(state, settings, control, sealed), settings.train.time_limit_s, noting, clock, cancelled)
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


def since_last(state: State, control: Control, now_us: int) -> Since:
    """What the rules of `schedule.decide` want to know."""
    with Facts(state.facts).pinned() as facts:
        return since_in(facts, control, now_us)


def since_in(facts: Facts, control: Control, now_us: int) -> Since:
    """The same of these facts."""
    last, done = next(iter(control.trainings.list(1)), None), control.trainings.last_done()
    labels = facts.labels_since({}, LABELS)
    human, verdicts = (
        labels if done is None else facts.labels_since(_before(done.positions, done.started_at_us), LABELS)
    )
    return Since(
        last_started_us=last.started_at_us if last else None,
        last_ended_us=last.ended_at_us if last else None,
        failures_in_a_row=control.trainings.failures_in_a_row(),
        new_human_labels=human,
        new_verdicts=verdicts,
        labels=sum(labels),
        rejected=_rejected(facts, control, last, now_us),
    )


def since_sealed(facts: Facts, snapshots: Sequence[Manifest], now_us: int) -> Since:
    """What the same rules want to know where snapshots are sealed and nothing is trained; `snapshots`, oldest first.

    One that was sealed by a clock that was ahead says nothing of what came in since.
    """
    known = [one.as_of_us for one in snapshots if math.isfinite(elapsed_s(one.as_of_us, now_us))]
    sealed_us = known[-1] if known else None
    labels = facts.labels_since({}, LABELS)
    new = labels if sealed_us is None else facts.labels_since(sealed_us, LABELS)
    return Since(sealed_us, sealed_us, 0, *new, sum(labels))


def _rejected(facts: Facts, control: Control, last: Training | None, now_us: int) -> Rejected | None:
    """What a person said no to, unless a training began afterwards (by a clock that was not ahead)."""
    request = control.trainings.last_rejected()
    if request is None or request.answered_at_us is None:
        return None
    began_us = last.started_at_us if last is not None else 0
    if began_us > request.answered_at_us and math.isfinite(elapsed_s(began_us, now_us)):
        return None
    new = facts.labels_since(_before(request.positions, request.answered_at_us), LABELS)
    return Rejected(request.answered_at_us, *new)


def _before(positions: Positions | None, at_us: int) -> Positions | int:
    """What an older version has stored counts by time."""
    return at_us if positions is None else positions


def _clear_abandoned(work: Path, now_us: int) -> None:
    """Remove the checkpoints of trainings that nobody took up again for a week."""
    for folder in work.iterdir():
        finished = (folder / RESULT).exists()
        if not folder.is_dir() or finished:
            continue
        age_s = now_us / 1e6 - folder.stat().st_mtime
        if age_s < -AHEAD_S:  # of a clock that was ahead: the week begins now
            os.utime(folder, (now_us / 1e6, now_us / 1e6))
        elif age_s > ABANDONED_S:
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
