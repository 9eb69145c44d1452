"""Pairs of replies to compare."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from itertools import zip_longest
from typing import Any

from sqlalchemy import select

from deploy.control import comparisons
from deploy.control.records import Candidate
from deploy.control.store import Control
from deploy.rules.comparing import JUDGE, Comparison, ComparisonLabel, Labelled
from deploy.rules.rollout import CandidateState
from deploy.rules.weighing import Comparisons, weigh

CANDIDATE = "c" * 64
PATIENCE_US = 3 * 86_400 * 1_000_000


def pair(n: int, people: int = 1, at_us: int | None = None) -> Comparison:
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
        sampled_at_us=(sampled_at_us := n if at_us is None else at_us),
        until_us=sampled_at_us + PATIENCE_US,
    )


def labelled_as(pair: Comparison, labels: Sequence[ComparisonLabel] = ()) -> Labelled:
    """As the gate sees it."""
    names = (field.name for field in fields(Labelled) if field.name != "labels")
    return Labelled(**{name: getattr(pair, name) for name in names}, labels=tuple(labels))


def stored(control: Control, candidate: str = CANDIDATE, incumbent: str | None = None) -> list[Comparison]:
    """The pairs of these two in the database, whole, in the order of sampling."""
    pairs = comparisons.schema.comparisons
    these = (pairs.c.candidate == candidate) & (pairs.c.incumbent == (incumbent or ""))
    with control.database.read() as connection:
        rows = connection.execute(select(*comparisons.COLUMNS).where(these).order_by(pairs.c.number))
        return [comparisons.comparison_of(row) for row in rows]


def sample(n: int, conversation: str | None = None, **changes: Any) -> dict[str, Any]:
    """Of the n-th gate prompt, as a report has it."""
    return {
        "prompt": [{"role": "user", "content": f"question {n}"}],
        "locale": "en",
        "candidate": f"the candidate's {n}",
        "incumbent": f"the incumbent's {n}",
        "turn": ["default", conversation or f"c-{n:04d}", f"t-{n:04d}"],
    } | changes


def add_candidate(control: Control, digest: str = CANDIDATE, state: CandidateState = "held") -> None:
    """One in the list, without files."""
    with control.change() as tx:
        tx.add_candidate(Candidate(digest, "s-1", "sha256:0", "0" * 64, 1, 1, state, "gate"))


def label(
    pair: Comparison, preference: float | None, labeller: str = "anna", at_us: int | None = None
) -> ComparisonLabel:
    """What somebody said of the pair at once, or then."""
    return ComparisonLabel(pair.id, labeller, preference, pair.sampled_at_us if at_us is None else at_us, {})


def labelled(preferences: Sequence[float | None], judge: Sequence[float | None] = ()) -> list[Labelled]:
    """A pair for each of anna's labels, with one of the judge's where there is one."""
    found = []
    for n, (said, judged) in enumerate(zip_longest(preferences, judge, fillvalue="nothing")):
        one = replace(pair(n), probability=1.0 if not judge else 0.5)
        labels = [label(one, said)] + ([] if judged == "nothing" else [label(one, judged, JUDGE)])
        found.append(labelled_as(one, labels))
    return found


def compared(wins: int, losses: int, ties: int = 0) -> Comparisons:
    """What comes of so many labels by people, as evenly mixed as they go."""
    places = [
        ((2 * n + 1) / (2 * many), said)
        for many, said in ((wins, 1.0), (losses, 0.0), (ties, 0.5))
        for n in range(many)
    ]
    return weigh(labelled([said for _, said in sorted(places)]), False, 1)


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
