"""Pairs of replies to compare."""

from __future__ import annotations

from deploy.control.records import Candidate
from deploy.control.store import Control
from deploy.rules.comparing import Comparison
from deploy.rules.rollout import CandidateState

CANDIDATE = "c" * 64


def pair(n: int, people: int = 1) -> Comparison:
    """The n-th: another user, turn and replies each."""
    return Comparison(
        candidate=CANDIDATE,
        incumbent=None,
        origin="offline",
        tenant="t",
        conversation_id=f"c-{n}",
        turn_id="1",
        unit=f"u-{n}",
        locale="en",
        prompt=[{"role": "user", "content": f"question {n}"}],
        candidate_reply=f"the candidate's answer {n}",
        incumbent_reply=f"the incumbent's answer {n}",
        people=people,
        probability=0.5,
        sampled_at_us=n,
    )


def registered(control: Control, digest: str = CANDIDATE, state: CandidateState = "held") -> None:
    """The candidate of these pairs, in the control database."""
    with control.change() as tx:
        tx.add_candidate(Candidate(digest, "s-1", "sha256:00", "0" * 64, 1, 1, state, "gate"))
