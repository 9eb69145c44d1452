"""What is remembered, as values: candidates, seals, approvals, and who served what from when to when."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from deploy.errors import Failed
from deploy.rules.rollout import CandidateState, Stage
from deploy.rules.shadow import Outcome


class UnknownCandidate(Failed):
    """No candidate, or more than one, has a digest that begins so."""


@dataclass(frozen=True)
class Candidate:
    """A candidate directory that was registered, and what became of it."""

    digest: str
    snapshot: str
    dataset_hash: str
    report_sha256: str
    created_at_us: int
    registered_at_us: int
    state: CandidateState
    stage: Stage
    rejected_by: str | None = None
    seal: str | None = None
    """Its latest seal; None where that is of a version before, which is history."""


@dataclass(frozen=True)
class Seal:
    """The evidence at one decision point; `seal` is its sha256, and what an approval names."""

    seal: str
    candidate: str
    decision: str
    reasons: Sequence[Any]
    """As JSON values; sentences in version 1."""
    evidence: dict[str, Any]
    sealed_at_us: int
    version: int | None = None
    """Of the evidence; None: 1."""


@dataclass(frozen=True)
class Approval:
    """A person's yes."""

    rollout_id: str
    at_us: int
    candidate: str
    seal: str
    actor: str
    reason: str
    override_hold: bool


@dataclass(frozen=True)
class Objection:
    """A named person's no to going on with a candidate, until it is withdrawn."""

    candidate: str
    at_us: int
    actor: str
    reason: str
    withdrawn_at_us: int | None = None


@dataclass(frozen=True)
class Period:
    """Who served what, from when to when. `ended_at_us` None: it is now. `share` is the candidate's, of new conversations."""

    started_at_us: int
    ended_at_us: int | None
    incumbent: str | None
    rollout_id: str | None
    candidate: str | None
    share: float
    halted: bool


@dataclass(frozen=True)
class RolloutLook:
    """What the controller saw of a rollout: its arms side by side, what is to be done, and why, as JSON values."""

    rollout_id: str
    at_us: int
    document: dict[str, Any]


@dataclass(frozen=True)
class ShadowEnded:
    """A shadow that is over, and how it came to that."""

    candidate: str
    started_at_us: int
    ended_at_us: int
    outcome: Outcome
    why: str


@dataclass(frozen=True)
class ShadowTally:
    """What came of asking a candidate, unseen: pairs, when the last of them came, and why there was none, how often."""

    pairs: int
    last_at_us: int | None
    failures: Mapping[str, int]
