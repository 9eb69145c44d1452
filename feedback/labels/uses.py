"""What the rules of pairing share: where a label stands, what names it, and what became of what was said."""

from __future__ import annotations

import hashlib
from collections import Counter
from typing import Any, Literal

import msgspec

from feedback.content import Text, is_learnable
from feedback.digests import MASK, masked
from feedback.labels.outline import Outline
from feedback.labels.votes import Decision, Vote

Use = Literal[
    "used",
    "superseded",
    "neutral",
    "unchanged",
    "cut",
    "mismatched",
    "untrainable",
    "outside_window",
    "inert",
    "unconfirmed",
    "over_edit_cap",
    "over_judge_share",
]
"""What a live rating or verdict came to: it is in a label; gave way to a better source; decides nothing (a tie, three
stars, an edit that deletes all); is an edit that changes nothing to be seen; praises or edits a
reply that was cut; compares replies to different contexts, or an unknown one; its turn may not be learned from, or
is not in the window; is of a kind that trains nothing; is a user's edit that nobody confirmed, or one too many; is a
verdict beyond the judge's share."""


class Uses:
    """Counts every rating and verdict once."""

    def __init__(self) -> None:
        self.ratings: Counter[Use] = Counter()
        self.verdicts: Counter[Use] = Counter()

    def count(self, decision: Decision, use: Use) -> None:
        """All votes on a question that came to `use`."""
        self._count(decision.counted, use)
        self._count(decision.superseded, "superseded" if use in ("used", "neutral") else use)

    def _count(self, votes: tuple[Vote, ...], use: Use) -> None:
        self.ratings[use] += sum(vote.origin == "rating" for vote in votes)
        self.verdicts[use] += sum(vote.origin == "verdict" for vote in votes)


def unusable(turn: Outline, in_window: bool) -> Use | None:
    """Why a turn gives no labels; None where it does."""
    if not is_learnable(turn.untrainable):
        return "untrainable"
    return None if in_window else "outside_window"


def place_of(turn: Outline, text: Text) -> dict[str, Any]:
    """The fields that every label takes from the turn it stands on."""
    return {
        "prompt": text.prompt,
        "split": turn.split,
        "tenant": turn.tenant,
        "conversation_id": turn.conversation_id,
        "turn_id": turn.turn_id,
        "locale": turn.locale,
    }


def label_id(*question: str) -> str:
    """The id of the label that answers a question: the same question has the same id whatever the answer.

    It is one of those that depend on the key where an id in the question does.
    """
    name = hashlib.sha256(msgspec.json.encode(question)).hexdigest()[:32]
    return f"{MASK}-{name}" if MASK in map(masked, question) else name
