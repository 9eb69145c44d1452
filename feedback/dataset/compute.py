"""From facts to a dataset: the rows of a snapshot and the account of everything that was read for it.

A function of the set of facts, the moment and the rules; not of the order in which facts come, their duplicates, or the
key that user ids are hashed with.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Set
from typing import Protocol

import msgspec
import numpy as np
from msgspec import Struct

from feedback.content import Text, is_learnable, trainable_text, untrainable
from feedback.dataset import census, tables, window
from feedback.dataset.census import Census, Column, Rows
from feedback.dataset.near_duplicates import prompt_key
from feedback.dataset.tables import TABLES, Row, ServedTurn, TableName
from feedback.dataset.window import Drop
from feedback.digests import payload_of
from feedback.labels import exchanges, pairing
from feedback.labels.exchanges import Exchange, Said, is_rated
from feedback.labels.outline import Outline, outline
from feedback.labels.pairing import Labels
from feedback.labels.uses import Use
from feedback.records import RANKS, Judgement, Pick, Rating, Turn, TurnKey
from feedback.settings import WindowSettings

RULES_VERSION = "4"
"""Raise it when a rule of exchanges, pairing, window or splits changes: the same facts then make another dataset."""


class FactsReader(Protocol):
    """Facts as iterables, in any order, with duplicates and conflicting payloads; bounds are inclusive."""

    def turns(
        self, since_us: int = ..., until_us: int = ..., only: Set[bytes] | None = ...
    ) -> Iterable[tuple[Turn, str]]:
        """Turns with their content hashes: all, or those whose `census.payload_of` is in `only`."""

    def turns_before(self, until_us: int) -> int:
        """How many facts of turns are older."""

    def known_before(self, until_us: int, turns: Set[TurnKey]) -> Set[TurnKey]:
        """Those of the turns of which there is an older fact."""

    def ratings(self, since_us: int = ..., until_us: int = ...) -> Iterable[tuple[Rating, str]]:
        """Ratings with their content hashes."""

    def verdicts(self, since_us: int = ..., until_us: int = ...) -> Iterable[Judgement]:
        """Verdicts, and reasons why there is none."""


class Counts(Struct, frozen=True, kw_only=True):
    """An account of all facts within the window's age, up to `as_of_us`, and of what the snapshot makes of them."""

    turns: int
    """Distinct turns."""
    older_turns: int = 0
    """Facts of turns that are older than the window: they are not read."""
    ratings: dict[str, int]
    """Distinct ratings by kind; the sum equals that of `rating_uses`."""
    rating_uses: dict[str, int]
    """What became of each rating: `exchanges.Fate` and `pairing.Use`."""
    verdict_uses: dict[str, int]
    """What became of each verdict that counts on its question."""
    duplicates: int
    conflicts: int
    orphan_ratings: int
    """Ratings of a turn that their conversation does not have."""
    too_old_ratings: int = 0
    """Ratings of a turn that is older than the window."""
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
    """Turns that may not or cannot be learned from, by reason; of replies that were cut (`finish_…`), only as unwanted."""
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
    """The rows and the account of the snapshot of the facts as of a moment. A function of the set of facts alone.

    Turns are read three times: to count them all; for the outlines of those that may be in the window or are compared
    with others; for the texts of those that are in it. No more than that is held of them.
    """
    since_us = max(as_of_us - settings.max_age_s * 1_000_000, 0)
    counted = census.take(facts.turns(since_us, as_of_us))
    said = exchanges.said(
        facts.ratings(since_us, as_of_us),
        facts.verdicts(since_us, as_of_us),
        counted.known,
        as_of_us,
        lambda turns: facts.known_before(since_us, turns),
    )
    kept, joined, dropped = _in_play(facts, since_us, as_of_us, counted, said, settings)
    answered = pairing.answers(joined)
    with_text = kept | (answered.compared_with(kept) & joined.keys())
    texts = _texts(facts.turns(since_us, as_of_us, counted.payloads(counted.rows_of(with_text))))
    elsewhere = pairing.unused(said, _elsewhere(counted, said.turns - joined.keys()))
    labels = pairing.labels(
        joined, answered, kept, texts, settings.max_user_edits, settings.max_anonymous_edits, elsewhere
    )
    labels = _within_judge_share(labels, settings.max_judge_share)
    content: dict[TableName, list[Row]] = {
        "pairs": tables.sorted_rows(labels.pairs),
        "unpaired": tables.sorted_rows(labels.unpaired),
        "demonstrations": tables.sorted_rows(labels.demonstrations),
        "turns": tables.sorted_rows(
            _served(joined[key].turn, texts[key]) for key in kept if joined[key].turn.untrainable is None
        ),
    }
    return content, _counts(facts.turns_before(since_us), counted, said, len(kept), dropped, labels, content)


def _in_play(
    facts: FactsReader, since_us: int, as_of_us: int, counted: Census, said: Said, settings: WindowSettings
) -> tuple[set[TurnKey], dict[TurnKey, Exchange], dict[Drop, int]]:
    """The turns in the window; they and those that may be compared with them, as exchanges; and the others by reason."""
    standing = _standing(counted, said)
    before = window.candidates(counted, standing, settings)
    compared = _compared(counted, said)
    wanted = counted.payloads(np.union1d(compared, before.rows))
    outlines, prompts = _outlines(facts.turns(since_us, as_of_us, wanted), counted.payloads(before.rows))
    name_of = dict(zip(counted.rows_of(outlines).tolist(), outlines, strict=True))
    asked = [prompts[name_of[row]] for row in before.rows.tolist()]
    chosen = window.select(counted, before, standing, asked, settings)
    kept = {name_of[row] for row in chosen.rows.tolist()}
    in_play = kept | {name_of[row] for row in compared.tolist()}
    return kept, exchanges.join((outlines[key] for key in in_play), said), dict(chosen.dropped)


def _standing(counted: Census, said: Said) -> Column:
    """How each turn stands: rated by people, otherwise spoken of, or neither."""
    standing = np.full(len(counted), window.NEITHER, dtype=np.uint8)
    standing[counted.rows_of(said.ratings.keys() | said.verdicts.keys())] = window.SPOKEN_OF
    rated = (key for key, ratings in said.ratings.items() if is_rated(ratings))
    standing[counted.rows_of(rated)] = window.RATED
    return standing


def _compared(counted: Census, said: Said) -> Rows:
    """The turns that a label may look at, in the window or not: those that a pick or a verdict compares, that were replaced,
    or that may have replaced one that was regenerated."""
    compared, regenerated = set[TurnKey](), set[TurnKey]()
    for key, ratings in said.ratings.items():
        for rating in ratings:
            if isinstance(rating.value, Pick):
                compared |= {key, (*key[:2], rating.value.over)}
            elif rating.kind == "signal" and rating.value == "regenerate":
                regenerated.add(key)
    for key, verdicts in said.verdicts.items():
        compared |= {key for verdict in verdicts if verdict.other_turn_id is not None}
    rows = counted.rows_of(compared)
    return np.unique(
        np.concatenate((rows[rows >= 0], counted.replaced(), counted.beside(counted.rows_of(regenerated))))
    )


def _elsewhere(counted: Census, turns: Set[TurnKey]) -> Iterator[tuple[TurnKey, Use]]:
    """Why each of these turns gives no label."""
    for key, reason in zip(turns, counted.reason[counted.rows_of(turns)].tolist(), strict=True):
        yield key, "outside_window" if is_learnable(counted.reasons[reason]) else "untrainable"


def _outlines(
    turns: Iterable[tuple[Turn, str]], candidates: Set[bytes]
) -> tuple[dict[TurnKey, Outline], dict[TurnKey, str]]:
    """The outlines of the turns, and the prompt keys of those among the candidates."""
    outlines: dict[TurnKey, Outline] = {}
    prompts: dict[TurnKey, str] = {}
    for turn, content_hash in turns:
        key = turn.key
        held = outlines.get(key)
        if held is not None and RANKS[held.origin] == RANKS[turn.origin]:
            if held.user_id != turn.user_id:  # payloads that differ in nothing else belong to nobody
                outlines[key] = msgspec.structs.replace(held, user_id=None)
            continue
        if held is not None and RANKS[held.origin] > RANKS[turn.origin]:
            continue
        outlines[key] = outline(turn)
        if payload_of(*key, content_hash) in candidates:
            prompts[key] = prompt_key(turn)
    return outlines, prompts


def _texts(turns: Iterable[tuple[Turn, str]]) -> dict[TurnKey, Text]:
    readable = (turn for turn, _ in turns if is_learnable(untrainable(turn)))
    return {turn.key: trainable_text(turn) for turn in readable}


def _served(turn: Outline, text: Text) -> ServedTurn:
    return ServedTurn(
        turn_id=turn.turn_id,
        conversation_id=turn.conversation_id,
        tenant=turn.tenant,
        split=turn.split,
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
    older: int,
    counted: Census,
    said: Said,
    in_window: int,
    dropped: dict[Drop, int],
    labels: Labels,
    content: dict[TableName, list[Row]],
) -> Counts:
    rated = {key for key, ratings in said.ratings.items() if is_rated(ratings)}
    unjudged = Counter(why.reason for key, why in said.unjudged.items() if key not in rated)
    unrated = len(counted) - len(rated)
    unjudged["no_judge"] += unrated - len(said.verdicts.keys() - rated) - unjudged.total()
    reasons = zip(counted.reasons, np.bincount(counted.reason, minlength=len(counted.reasons)).tolist(), strict=True)
    return Counts(
        turns=len(counted),
        older_turns=older,
        ratings=said.kinds,
        rating_uses=dict(Counter[str](said.fates) + Counter[str](labels.ratings)),
        verdict_uses=dict(Counter[str](labels.verdicts)),
        duplicates=counted.duplicates + said.duplicates,
        conflicts=counted.conflicts + said.conflicts,
        orphan_ratings=len(said.orphans),
        too_old_ratings=said.fates.get("too_old", 0),
        orphan_verdicts=said.orphan_verdicts,
        conversation_ratings=dict(Counter(rating.kind for rating in said.conversation_ratings)),
        unrated=unrated,
        judged=len(said.verdicts),
        unjudged=dict(+unjudged),
        untrainable={reason: number for reason, number in reasons if reason is not None and number},
        dropped=dict(Counter[str](dropped)),
        in_window=in_window,
        pairs=dict(Counter(pair.how for pair in labels.pairs)),
        unpaired=dict(Counter(label.kind for label in labels.unpaired)),
        demonstrations=len(labels.demonstrations),
        sources=dict(Counter(row["source"] for table in TABLES if table != "turns" for row in content[table])),
        splits={table: dict(Counter(row["split"] for row in rows)) for table, rows in content.items()},
    )
