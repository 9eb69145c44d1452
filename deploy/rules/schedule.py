"""When to retrain: a pure rule over what was trained before and what has come in since."""

from __future__ import annotations

import math
from dataclasses import dataclass

from deploy.rules.elapsed import elapsed_s
from deploy.settings import ApproveSettings, TrainSettings

LONGEST_BACKOFF_S = 86_400.0

NOT_TRAINED = "this engine takes no adapters: labels are captured, judged and sealed, nothing is trained"


@dataclass(frozen=True)
class Rejected:
    """A person said no to a training, and none began since. The labels are those that came in afterwards."""

    at_us: int
    new_human_labels: int
    new_verdicts: int


@dataclass(frozen=True)
class Since:
    """What is known when the question is asked. Times in microseconds; None where there was no training yet."""

    last_started_us: int | None
    last_ended_us: int | None
    failures_in_a_row: int
    new_human_labels: int
    new_verdicts: int
    labels: int
    """Labels there are at all, old ones included."""
    rejected: Rejected | None = None


@dataclass(frozen=True)
class Start:
    """Train now, because `reason`; `needs_yes`: only after a person agreed."""

    reason: str
    needs_yes: bool


@dataclass(frozen=True)
class Wait:
    """Not now, because `reason`."""

    reason: str


def decide(since: Since, train: TrainSettings, approve: ApproveSettings, now_us: int) -> Start | Wait:
    """Whether to start a training now."""
    if since.labels < train.min_labels:
        return Wait(f"{since.labels} labels; a training is worth it from {train.min_labels} on")
    if since.failures_in_a_row and since.last_ended_us is not None:
        backoff_s = min(train.backoff_s * 2 ** (since.failures_in_a_row - 1), LONGEST_BACKOFF_S)
        left_s = backoff_s - elapsed_s(since.last_ended_us, now_us)
        if left_s > 0:
            return Wait(f"{since.failures_in_a_row} failed in a row; next try in {left_s:.0f} s")
    needs_yes = "train" in approve.before
    no = since.rejected if needs_yes else None
    reason = _reason(since, train, now_us) if no is None else _reason_after(no, since, train, now_us)
    if reason is not None:
        return Start(reason, needs_yes)
    new, when = no or since, "so far" if no is None else "since a person said no"
    return Wait(f"{new.new_human_labels} new labels by people and {new.new_verdicts} new verdicts {when}")


def _reason_after(no: Rejected, since: Since, train: TrainSettings, now_us: int) -> str | None:
    """What makes it another question than the one that a person said no to."""
    if enough := _enough(no, train):
        return f"{enough} since a person said no"
    age_s = elapsed_s(no.at_us, now_us)
    wanted = since.failures_in_a_row or since.new_human_labels + since.new_verdicts > 0
    if train.every_s and wanted and age_s >= train.every_s:
        return f"{_span(age_s)} since a person said no (rule: {train.every_s / 3600:.1f} h)"
    return None


def _enough(new: Since | Rejected, train: TrainSettings) -> str | None:
    if train.min_new_human_labels and new.new_human_labels >= train.min_new_human_labels:
        return f"{new.new_human_labels} new labels by people (rule: {train.min_new_human_labels})"
    if train.min_new_verdicts and new.new_verdicts >= train.min_new_verdicts:
        return f"{new.new_verdicts} new verdicts (rule: {train.min_new_verdicts})"
    return None


def _reason(since: Since, train: TrainSettings, now_us: int) -> str | None:
    if enough := _enough(since, train):
        return enough
    if since.failures_in_a_row:
        return "the last training failed"
    if train.every_s and since.new_human_labels + since.new_verdicts > 0:
        if since.last_started_us is None:
            return "there was no training yet"
        age_s = elapsed_s(since.last_started_us, now_us)
        if age_s >= train.every_s:
            return f"the last training began {_span(age_s)} ago (rule: {train.every_s / 3600:.1f} h)"
    return None


def _span(age_s: float) -> str:
    return f"{age_s / 3600:.1f} h" if math.isfinite(age_s) else "an unknown time (the clock was ahead then)"
