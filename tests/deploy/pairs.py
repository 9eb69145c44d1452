"""Pairs of replies to compare."""

from __future__ import annotations

from deploy.rules.comparing import Comparison

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
