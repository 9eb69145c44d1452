"""Metrics of decisions: trainings, candidates, the rollout and the kill switch, as the control database has them.

Only the controller serves these: every role shares the database, and one fact from four processes would be four facts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from importlib.metadata import version
from typing import get_args

from prometheus_client import REGISTRY, Gauge
from sqlalchemy import Connection, func, select

from deploy.control import schema
from deploy.control.records import RolloutLook
from deploy.control.shadows import held_shadow, read_shadow
from deploy.control.store import Control
from deploy.control.transaction import Transaction
from deploy.rules.reasons import COMPARED, Reason
from deploy.rules.rollout import CandidateState, Serving
from feedback.statistics.deciding import Action

TRAINING_RUNS = Gauge(
    "trimtab_training_runs", "Trainings that ended, by how: done, failed or stopped.", ["outcome"], registry=None
)
TRAINING_FAILURES_IN_A_ROW = Gauge(
    "trimtab_training_failures_in_a_row", "Failed trainings since the last one that was done.", registry=None
)
TRAINING_LAST_SUCCESS = Gauge(
    "trimtab_training_last_success_timestamp_seconds",
    "Unix time at which a training was last done; 0 where none was.",
    registry=None,
)
TRAINING_RUNNING = Gauge("trimtab_training_running", "1 while a training runs.", registry=None)
TRAINING_REQUEST_WAITING_SECONDS = Gauge(
    "trimtab_training_request_waiting_seconds",
    "How long a training has waited for a person's yes; 0 where none waits.",
    registry=None,
)
CANDIDATES = Gauge("trimtab_candidates", "Candidates by state.", ["state"], registry=None)
CANDIDATE_WAITING_SECONDS = Gauge(
    "trimtab_candidate_waiting_seconds",
    "How long the oldest candidate that a person must approve or reject has waited; 0 where none waits.",
    registry=None,
)
ROLLOUT_SHARE = Gauge(
    "trimtab_rollout_share", "Part of the units that the candidate under rollout serves, 0 to 1.", registry=None
)
ROLLOUT_STATE = Gauge(
    "trimtab_rollout_state", "1 for the state of the rollout under way, else 0; `none`: none is.", ["state"], registry=None
)  # fmt: skip
ROLLOUT_VERDICT = Gauge(
    "trimtab_rollout_verdict", "1 for what the controller's last look at the rollout says is to be done, else 0.", ["action"], registry=None
)  # fmt: skip
ROLLOUT_UNITS = Gauge(
    "trimtab_rollout_units", "Users (conversations where none is known) enrolled in the rollout under way.", ["arm"], registry=None
)  # fmt: skip
ROLLOUT_CLOSED_UNITS = Gauge(
    "trimtab_rollout_closed_units", "Of them those whose window is over, at each age.", ["arm", "metric", "age_hours", "group"], registry=None
)  # fmt: skip
ROLLOUT_BAD_UNITS = Gauge(
    "trimtab_rollout_bad_units", "Of those with a closed window the ones with a bad outcome.", ["arm", "metric", "age_hours", "group"], registry=None
)  # fmt: skip
ROLLOUT_HARM = Gauge(
    "trimtab_rollout_harm", "Evidence of harm, as a part of what rolls back (or pauses): 1 does.", ["metric", "age_hours", "group"], registry=None
)  # fmt: skip
ROLLOUT_SAMPLE_RATIO = Gauge(
    "trimtab_rollout_sample_ratio",
    "Evidence that units did not come to the arms as they were drawn, as a part of what holds the rollout: 1 does.",
    ["counted"],
    registry=None,
)
COMPARISONS = Gauge(
    "trimtab_comparisons", "Pairs of the newest candidate on which nobody has decided, as the gate counts them.", ["state"], registry=None
)  # fmt: skip
COMPARISONS_EVIDENCE = Gauge(
    "trimtab_comparisons_evidence", "Evidence that people prefer its replies, as a part of what it takes: 1 does.", registry=None
)  # fmt: skip
COMPARISONS_WAITING_SECONDS = Gauge(
    "trimtab_comparisons_waiting_seconds",
    "How long the oldest pair has waited that people are asked about, of any candidate; 0 where none waits.",
    registry=None,
)
SHADOW_STARTED = Gauge(
    "trimtab_shadow_started_timestamp_seconds",
    "Unix time since when a candidate answers a copy of some turns, unseen; 0 where none does.",
    registry=None,
)
SHADOW_HELD = Gauge(
    "trimtab_shadow_held",
    "1 while a candidate waits for a person whose shadow came to its longest without enough evidence.",
    registry=None,
)
ROLLBACKS = Gauge("trimtab_rollbacks", "Rollbacks in the history, of rollouts and of incumbents.", registry=None)
HALTED = Gauge("trimtab_halted", "1 while everything is halted: the bare base serves.", registry=None)
BUILD_INFO = Gauge("trimtab_build_info", "1; its label is the version that runs.", ["version"], registry=None)

GAUGES = (
    TRAINING_RUNS,
    TRAINING_FAILURES_IN_A_ROW,
    TRAINING_LAST_SUCCESS,
    TRAINING_RUNNING,
    TRAINING_REQUEST_WAITING_SECONDS,
    CANDIDATES,
    CANDIDATE_WAITING_SECONDS,
    ROLLOUT_SHARE,
    ROLLOUT_STATE,
    ROLLOUT_VERDICT,
    ROLLOUT_UNITS,
    ROLLOUT_CLOSED_UNITS,
    ROLLOUT_BAD_UNITS,
    ROLLOUT_HARM,
    ROLLOUT_SAMPLE_RATIO,
    COMPARISONS,
    COMPARISONS_EVIDENCE,
    COMPARISONS_WAITING_SECONDS,
    SHADOW_STARTED,
    SHADOW_HELD,
    ROLLBACKS,
    HALTED,
    BUILD_INFO,
)

OUTCOMES = ("done", "failed", "stopped")
ROLLOUT_STATES = ("none", "approved", "canary", "paused")
COMPARISON_STATES = {
    "sampled": "pairs",
    "counted": "counted",
    "waiting_people": "wait_people",
    "waiting_judge": "wait_judge",
}
"""With what the gate calls them."""
CANDIDATE_STATES = tuple(state for state in get_args(CandidateState) if state != "halted")  # that one is only shown


@cache
def serve() -> None:
    """Put the gauges on this process's /metrics; `refresh` does so by itself."""
    for gauge in GAUGES:
        REGISTRY.register(gauge)


def refresh(control: Control, now_us: int) -> None:
    """Set every gauge to what the control database says now; cheap enough for every few seconds."""
    with control.read() as tx:
        counts, serving = tx.count_by_state(), tx.serving()
        look = tx.look(serving.rollout.id) if serving.rollout is not None else None
        waiting_since_us = tx.waiting_since_us(_overtaken_us(tx, serving))
        _set_trainings(tx.connection)
        _set_shadow(tx.connection)
        rolled_back = select(func.count()).select_from(schema.history).where(schema.history.c.after == "rolled_back")
        ROLLBACKS.set(tx.connection.execute(rolled_back).scalar_one())
    TRAINING_FAILURES_IN_A_ROW.set(control.trainings.failures_in_a_row())
    pair_waits_since_us = control.labelling.waiting_since_us(now_us)
    COMPARISONS_WAITING_SECONDS.set(_age_s(pair_waits_since_us, now_us))
    request = control.trainings.open_request()
    asked_at_us = request.requested_at_us if request is not None and request.answer is None else None
    TRAINING_REQUEST_WAITING_SECONDS.set(_age_s(asked_at_us, now_us))
    for state in CANDIDATE_STATES:
        CANDIDATES.labels(state=state).set(counts.get(state, 0))
    CANDIDATE_WAITING_SECONDS.set(_age_s(waiting_since_us, now_us))
    _set_rollout(serving)
    _set_look(look)
    BUILD_INFO.labels(version=version("trimtab")).set(1)
    serve()


def _overtaken_us(tx: Transaction, serving: Serving) -> int:
    """When the newest of what serves or is under rollout was made: nobody waits for candidates that are older."""
    chosen = (serving.incumbent, serving.rollout.candidate if serving.rollout is not None else None)
    return max((tx.candidate(digest).created_at_us for digest in chosen if digest is not None), default=0)


def _set_trainings(connection: Connection) -> None:
    table = schema.trainings
    rows = connection.execute(select(table.c.outcome, func.count().label("runs")).group_by(table.c.outcome))
    counts: dict[str | None, int] = {row.outcome: row.runs for row in rows}
    for outcome in OUTCOMES:
        TRAINING_RUNS.labels(outcome=outcome).set(counts.get(outcome, 0))
    TRAINING_RUNNING.set(1 if counts.get(None) else 0)
    last_done_us = connection.execute(select(func.max(table.c.ended_at_us)).where(table.c.outcome == "done")).scalar()
    TRAINING_LAST_SUCCESS.set((last_done_us or 0) / 1e6)


def show_comparisons(reasons: Sequence[Reason]) -> None:
    """What the gate says now of the newest candidate on which nobody has decided; none of no candidate."""
    said = next((reason.figures for reason in reasons if reason.code in COMPARED), {})
    for state, name in COMPARISON_STATES.items():
        COMPARISONS.labels(state=state).set(said.get(name, 0))
    COMPARISONS_EVIDENCE.set(min(1.0, said["e"] / said["needed"]) if said else 0)


def _set_shadow(connection: Connection) -> None:
    under_way = read_shadow(connection)
    SHADOW_STARTED.set(under_way.started_at_us / 1e6 if under_way is not None else 0)
    SHADOW_HELD.set(held_shadow(connection) is not None)


def _set_rollout(serving: Serving) -> None:
    under_way = serving.rollout
    ROLLOUT_SHARE.set(serving.share(under_way.candidate) if under_way is not None else 0)
    for state in ROLLOUT_STATES:
        ROLLOUT_STATE.labels(state=state).set(state == (under_way.state if under_way is not None else "none"))
    HALTED.set(serving.halted)


def _set_look(look: RolloutLook | None) -> None:
    action = look.document["action"] if look is not None else None
    for name in get_args(Action):
        ROLLOUT_VERDICT.labels(action=name).set(name == action)
    for gauge in (ROLLOUT_UNITS, ROLLOUT_CLOSED_UNITS, ROLLOUT_BAD_UNITS, ROLLOUT_HARM, ROLLOUT_SAMPLE_RATIO):
        gauge.clear()  # of a rollout that is over nothing is shown
    for arm, units in look.document["units"].items() if look is not None else ():
        ROLLOUT_UNITS.labels(arm=arm).set(units)
    for row in look.document["metrics"] if look is not None else ():
        labels = {"metric": row["metric"], "age_hours": f"{row['age_h']:g}", "group": row["slice"] or "all"}
        ROLLOUT_HARM.labels(**labels).set(_part_of(row["log_evidence_needed"], row["log_evidence_of_harm"]))
        for arm, units in row["of"].items():
            ROLLOUT_CLOSED_UNITS.labels(arm=arm, **labels).set(units)
            ROLLOUT_BAD_UNITS.labels(arm=arm, **labels).set(row["bad"][arm])
    for row in look.document.get("sample_ratio", ()) if look is not None else ():  # one of before had none
        part = _part_of(row["log_evidence_needed"], row["log_evidence"])
        ROLLOUT_SAMPLE_RATIO.labels(counted=row["counted"]).set(part)


def _part_of(log_needed: float, log_e: float) -> float:
    """1 where the evidence is enough, else the part of it that there is."""
    return math.exp(min(0.0, log_e - log_needed))


def _age_s(since_us: int | None, now_us: int) -> float:
    return 0.0 if since_us is None else max(0, now_us - since_us) / 1e6
