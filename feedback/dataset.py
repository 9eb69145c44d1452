"""From facts to a dataset: the rows of a snapshot and the account of everything that was read for it.

A function of the set of facts, the moment and the rules; not of the order in which facts come, their duplicates, or the
key that user ids are hashed with.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Protocol

import msgspec
from msgspec import Struct

from feedback import exchanges, pairing, tables, window
from feedback.content import trainable_text, untrainable
from feedback.exchanges import Reduced, is_rated
from feedback.pairing import Labels
from feedback.records import Judgement, Rating, Turn
from feedback.settings import WindowSettings
from feedback.splits import split_of
from feedback.tables import TABLES, Row, ServedTurn, TableName
from feedback.window import Window

RULES_VERSION = "1"
"""Raise it when a rule of exchanges, pairing, window or splits changes: the same facts then make another dataset."""


class FactsReader(Protocol):
    """Facts as iterables, in any order, with duplicates and conflicting payloads; bounds are inclusive."""

    def turns(self, since_us: int = ..., until_us: int = ...) -> Iterable[tuple[Turn, str]]:
        """Turns with their content hashes."""

    def ratings(self, since_us: int = ..., until_us: int = ...) -> Iterable[tuple[Rating, str]]:
        """Ratings with their content hashes."""

    def verdicts(self, since_us: int = ..., until_us: int = ...) -> Iterable[Judgement]:
        """Verdicts, and reasons why there is none."""


class Counts(Struct, frozen=True, kw_only=True):
    """An account of all facts up to `as_of_us` and of what the snapshot makes of them."""

    turns: int
    """Distinct turns."""
    ratings: dict[str, int]
    """Distinct ratings by kind; the sum equals that of `rating_uses`."""
    rating_uses: dict[str, int]
    """What became of each rating: `exchanges.Fate` and `pairing.Use`."""
    verdict_uses: dict[str, int]
    """What became of each verdict that counts on its question."""
    duplicates: int
    conflicts: int
    orphan_ratings: int
    orphan_verdicts: int
    conversation_ratings: dict[str, int]
    """Live ratings of whole conversations by kind; they train nothing by themselves."""
    unrated: int
    """Turns that nobody rated by thumbs, stars, pick or edit."""
    judged: int
    """Turns that a verdict speaks of."""
    unjudged: dict[str, int]
    """Unrated turns without a verdict, by the latest reason."""
    untrainable: dict[str, int]
    """Turns that may not or cannot be learned from, by reason."""
    dropped: dict[str, int]
    """Trainable turns that are not in the window, by reason."""
    in_window: int
    pairs: dict[str, int]
    """By how they came about."""
    unpaired: dict[str, int]
    """By kind."""
    demonstrations: int
    sources: dict[str, int]
    """All labels by source."""
    splits: dict[str, dict[str, int]]
    """Rows of each table by split."""


def compute(facts: FactsReader, as_of_us: int, settings: WindowSettings) -> tuple[dict[TableName, list[Row]], Counts]:
    """The rows and the account of the snapshot of the facts as of a moment. A function of the set of facts alone."""
    reduced = exchanges.reduce(
        facts.turns(until_us=as_of_us), facts.ratings(until_us=as_of_us), facts.verdicts(until_us=as_of_us), as_of_us
    )
    reasons = {key: untrainable(exchange.turn) for key, exchange in reduced.exchanges.items()}
    trainable = [reduced.exchanges[key] for key, reason in reasons.items() if reason is None]
    chosen = window.select((window.key_of(exchange) for exchange in trainable), as_of_us, settings)
    labels = pairing.labels(reduced.exchanges, chosen.kept, settings.max_user_edits)
    labels = _within_judge_share(labels, settings.max_judge_share)
    content: dict[TableName, list[Row]] = {
        "pairs": tables.sorted_rows(labels.pairs),
        "unpaired": tables.sorted_rows(labels.unpaired),
        "demonstrations": tables.sorted_rows(labels.demonstrations),
        "turns": tables.sorted_rows(_served(reduced.exchanges[key].turn) for key in chosen.kept),
    }
    unlearned = Counter(reason for reason in reasons.values() if reason is not None)
    return content, _counts(reduced, unlearned, chosen, labels, content)


def _served(turn: Turn) -> ServedTurn:
    text = trainable_text(turn)
    return ServedTurn(
        turn_id=turn.turn_id,
        conversation_id=turn.conversation_id,
        tenant=turn.tenant,
        split=split_of(turn.bucket),
        prompt=text.prompt,
        reply=text.reply,
        locale=turn.locale,
        policy=turn.policy,
        occurred_at_us=turn.occurred_at_us,
    )


def _within_judge_share(labels: Labels, share: float) -> Labels:
    beyond = window.beyond_judge_share((*labels.pairs, *labels.unpaired), share)
    verdicts = Counter(labels.verdicts)
    verdicts["used"] -= len(beyond)  # a label of the judge's stands on one verdict
    verdicts["over_judge_share"] += len(beyond)
    return msgspec.structs.replace(
        labels,
        pairs=tuple(pair for pair in labels.pairs if pair.id not in beyond),
        unpaired=tuple(label for label in labels.unpaired if label.id not in beyond),
        verdicts=dict(+verdicts),
    )


def _counts(
    reduced: Reduced,
    unlearned: Counter[str],
    chosen: Window,
    labels: Labels,
    content: dict[TableName, list[Row]],
) -> Counts:
    unrated = [exchange for exchange in reduced.exchanges.values() if not is_rated(exchange)]
    unjudged = Counter(
        exchange.unjudged.reason if exchange.unjudged else "no_judge" for exchange in unrated if not exchange.verdicts
    )
    return Counts(
        turns=len(reduced.exchanges),
        ratings=reduced.ratings,
        rating_uses=dict(Counter[str](reduced.fates) + Counter[str](labels.ratings)),
        verdict_uses=dict(Counter[str](labels.verdicts)),
        duplicates=reduced.duplicates,
        conflicts=reduced.conflicts,
        orphan_ratings=len(reduced.orphans),
        orphan_verdicts=reduced.orphan_verdicts,
        conversation_ratings=dict(Counter(rating.kind for rating in reduced.conversation_ratings)),
        unrated=len(unrated),
        judged=sum(bool(exchange.verdicts) for exchange in reduced.exchanges.values()),
        unjudged=dict(unjudged),
        untrainable=dict(unlearned),
        dropped=dict(Counter[str](chosen.dropped)),
        in_window=len(chosen.kept),
        pairs=dict(Counter(pair.how for pair in labels.pairs)),
        unpaired=dict(Counter(label.kind for label in labels.unpaired)),
        demonstrations=len(labels.demonstrations),
        sources=dict(Counter(row["source"] for table in TABLES if table != "turns" for row in content[table])),
        splits={table: dict(Counter(row["split"] for row in rows)) for table, rows in content.items()},
    )
