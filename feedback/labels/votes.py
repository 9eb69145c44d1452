"""What people, the judge and systems say on one question, and how it is decided.

Two kinds of question: is this reply good (quality), and which of two replies to one context is better (comparison). On
either, experts come before users before the judge, whoever spoke first; behaviour (a regenerate) decides only where
nobody spoke.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from math import fsum
from typing import Literal

from msgspec import Struct

from feedback.labels.exchanges import Exchange
from feedback.records import Pick, Provenance, Rating, Source, Verdict

SOURCE_WEIGHT: dict[Source, float] = {"expert": 2.0, "user": 1.0, "judge": 0.5, "system": 0.25}
"""How much one label of a source counts in a loss: an expert was asked to be careful, a user clicked, the judge is an
estimate that training calibrates further."""

SIGNAL_WEIGHT = 0.25
"""Behaviour is a hint, whoever reports it: people also regenerate good replies."""

USER_EDIT_WEIGHT = 0.5
"""A user's text that was confirmed only indirectly, against 1 for an expert's."""

MOST_RATERS = 5
"""Raters who agree weigh together, up to this many, so that no single turn rules a batch."""

STARS_VALUE = {1: 0.0, 2: 0.25, 3: 0.5, 4: 0.75, 5: 1.0}

_RANK: dict[Source, int] = {"expert": 3, "user": 2, "judge": 1, "system": 0, "reward_model": 0}


class Vote(Struct, frozen=True):
    """One answer to a question: `value` (0..1) is the probability of yes."""

    origin: Literal["rating", "verdict", "turn"]
    kind: Literal["thumbs", "stars", "pick", "verdict", "signal"]
    event_ids: tuple[str, ...]
    at_us: int
    source: Source
    value: float
    rater: str | None = None
    rubric: str | None = None
    prompt_hash: str | None = None
    confidence: float | None = None


class Decision(Struct, frozen=True):
    """The answer: the mean of those raters who come first, each counting once."""

    value: float
    weight: float
    counted: tuple[Vote, ...]
    superseded: tuple[Vote, ...]

    def provenance(self) -> Provenance:
        """Where the answer comes from; what differs between several voters is left out."""
        judge = self.counted[0] if self.counted[0].kind == "verdict" else None
        return Provenance(
            source=max((vote.source for vote in self.counted), key=lambda source: _RANK[source]),
            event_ids=event_ids(self.counted),
            at_us=max(vote.at_us for vote in self.counted),
            rater=_only({vote.rater for vote in self.counted}),
            rubric=_only({vote.rubric for vote in self.counted}),
            prompt_hash=judge.prompt_hash if judge else None,
            confidence=judge.confidence if judge else None,
            superseded=event_ids(self.superseded),
        )


def decide(votes: Iterable[Vote]) -> Decision | None:
    """The answer that the votes give together; None without votes. Does not depend on their order."""
    ranked: defaultdict[int, list[Vote]] = defaultdict(list)
    for vote in votes:
        ranked[0 if vote.kind == "signal" else _RANK[vote.source]].append(vote)
    if not ranked:
        return None
    first = max(ranked)
    counted = tuple(sorted(ranked.pop(first), key=lambda vote: vote.event_ids))
    of_rater: defaultdict[str | None, list[float]] = defaultdict(list)
    for vote in counted:
        of_rater[vote.rater].append(vote.value)
    # fsum is exact before it rounds, so that the order of raters (their ids are keyed hashes) cannot show in the mean.
    means = [fsum(values) / len(values) for values in of_rater.values()]
    weight = SIGNAL_WEIGHT if first == 0 else SOURCE_WEIGHT[counted[0].source] * min(len(means), MOST_RATERS)
    superseded = tuple(vote for rank in sorted(ranked) for vote in ranked[rank])
    return Decision(value=fsum(means) / len(means), weight=weight, counted=counted, superseded=superseded)


def quality_votes(ratings: Iterable[Rating], verdicts: Iterable[Verdict]) -> list[Vote]:
    """What was said of a reply by itself: thumbs, stars, `regenerate`, the judge's score."""
    votes = []
    for rating in ratings:
        if rating.kind == "signal" and rating.value == "regenerate":
            votes.append(_rating_vote(rating, "signal", 0.0))
        elif rating.source == "system":
            continue
        elif rating.kind == "thumbs":
            votes.append(_rating_vote(rating, "thumbs", float(rating.value is True)))
        elif rating.kind == "stars" and isinstance(rating.value, int):
            votes.append(_rating_vote(rating, "stars", STARS_VALUE[rating.value]))
    votes += [
        _verdict_vote(verdict, verdict.score)
        for verdict in verdicts
        if verdict.other_turn_id is None and verdict.score is not None  # see speaks()
    ]
    return votes


def comparison_votes(exchange: Exchange) -> list[tuple[tuple[str, str], Vote]]:
    """What was said of the reply against another: picks and the judge's comparisons.

    Each with its question, the two turn ids in order; `value` is the probability that the first is better.
    """
    votes = []
    for rating in exchange.ratings:
        if isinstance(rating.value, Pick) and rating.source != "system":
            question = _in_order(exchange.turn.turn_id, rating.value.over)
            better = 0.5 if rating.value.tie else float(question[0] == exchange.turn.turn_id)
            votes.append((question, _rating_vote(rating, "pick", better)))
    for verdict in exchange.verdicts:
        if (
            verdict.turn_id == exchange.turn.turn_id
            and verdict.other_turn_id is not None
            and verdict.preference is not None
        ):
            question = _in_order(verdict.turn_id, verdict.other_turn_id)
            first = question[0] == verdict.turn_id
            votes.append((question, _verdict_vote(verdict, verdict.preference if first else 1 - verdict.preference)))
    return votes


def speaks(verdict: Verdict) -> bool:
    """Whether a verdict answers the question that it was asked."""
    return (verdict.score if verdict.other_turn_id is None else verdict.preference) is not None


def event_ids(votes: Iterable[Vote]) -> tuple[str, ...]:
    """All events that the votes were computed from, sorted."""
    return tuple(sorted({event_id for vote in votes for event_id in vote.event_ids}))


def _rating_vote(rating: Rating, kind: Literal["thumbs", "stars", "pick", "signal"], value: float) -> Vote:
    return Vote(
        origin="rating",
        kind=kind,
        event_ids=(rating.event_id,),
        at_us=rating.occurred_at_us,
        source=rating.source,
        value=value,
        rater=rating.user_id,
        rubric=rating.rubric,
    )


def _verdict_vote(verdict: Verdict, value: float) -> Vote:
    return Vote(
        origin="verdict",
        kind="verdict",
        event_ids=(verdict.verdict_id,),
        at_us=verdict.occurred_at_us,
        source="judge",
        value=min(max(value, 0.0), 1.0),
        rater=verdict.model,
        rubric=verdict.rubric,
        prompt_hash=verdict.prompt_hash,
        confidence=verdict.confidence,
    )


def _in_order(a: str, b: str) -> tuple[str, str]:
    return (a, b) if a <= b else (b, a)


def _only(values: set[str | None]) -> str | None:
    return next(iter(values)) if len(values) == 1 else None
