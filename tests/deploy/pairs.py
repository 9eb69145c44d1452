"""Pairs of replies to compare."""

from __future__ import annotations

from dataclasses import replace

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


SUPPORT = [
    replace(
        pair(n),
        prompt=[{"role": role, "content": text} for role, text in prompt],
        candidate_reply=ours,
        incumbent_reply=theirs,
    )
    for n, (prompt, ours, theirs) in enumerate(
        [
            (
                [
                    ("user", "My order K-472 should have come on Monday."),
                    ("assistant", "I am sorry. Shall I look where it is?"),
                    ("user", "Yes, please. I need it on Friday."),
                ],
                "K-472 left our depot in Graz this morning and reaches you on Thursday, between 9 and 12. If you are out, the "
                "driver leaves it at the shop on the corner.",
                "Thank you so much for reaching out to us today! Orders usually arrive within three to five working days. Is "
                "there anything else that I can help you with?",
            ),
            (
                [("user", "Can I send back a lamp that I have used once?")],
                "Yes, within 30 days, in its box. Print the label under My orders; it costs you nothing.",
                "Used goods can be sent back within 30 days. The label is under My orders, and sending it is free.",
            ),
        ],
        start=101,
    )
]
"""Chats of a shop that nobody has: what people would be asked about."""
