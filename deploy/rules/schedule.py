"""When to retrain: a pure rule over what was trained before and what has come in since."""

from __future__ import annotations

from dataclasses import dataclass

from deploy.settings import ApproveSettings, TrainSettings

LONGEST_BACKOFF_S = 86_400.0


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
        left_s = backoff_s - (now_us - since.last_ended_us) / 1e6
        if left_s > 0:
            return Wait(f"{since.failures_in_a_row} failed in a row; next try in {left_s:.0f} s")
    reason = _reason(since, train, now_us)
    if reason is None:
        return Wait(f"{since.new_human_labels} new labels by people and {since.new_verdicts} new verdicts so far")
    return Start(reason, "train" in approve.before)


def _reason(since: Since, train: TrainSettings, now_us: int) -> str | None:
    if train.min_new_human_labels and since.new_human_labels >= train.min_new_human_labels:
        return f"{since.new_human_labels} new labels by people (rule: {train.min_new_human_labels})"
    if train.min_new_verdicts and since.new_verdicts >= train.min_new_verdicts:
        return f"{since.new_verdicts} new verdicts (rule: {train.min_new_verdicts})"
    if since.failures_in_a_row:
        return "the last training failed"
    if train.every_s and since.new_human_labels + since.new_verdicts > 0:
        if since.last_started_us is None:
            return "there was no training yet"
        age_s = (now_us - since.last_started_us) / 1e6
        if age_s >= train.every_s:
            return f"the last training began {age_s / 3600:.1f} h ago (rule: {train.every_s / 3600:.1f} h)"
    return None
