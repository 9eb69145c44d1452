"""From facts to exchanges: each turn with what counts of all that was said of it.

Order-free and indifferent to duplicates, so that any replay of a log gives the same exchanges:
- of several payloads under one event id, or several events under one turn id, the one with the smaller content hash
  counts;
- of one rater's ratings of one kind on one turn (of `score`: of one name; of rubric items: of one item; of picks: of one
  question, whichever of its two turns was rated) the greatest (`occurred_at_us`, `event_id`) counts, and a null takes it
  back;
- of the verdicts on one question the greatest (`occurred_at_us`, `verdict_id`) counts.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable
from typing import Generic, Literal, NamedTuple, TypeVar

import msgspec
from msgspec import Struct

from feedback.records import Exchange, Judgement, Pick, Rating, Score, Turn, Unjudged, Verdict

TurnKey = tuple[str, str]
"""(tenant, turn_id): what names a turn everywhere."""

RATED_BY = frozenset({"thumbs", "stars", "pick", "edit"})
"""A turn without a live rating of these kinds is unrated, and a question for the judge."""

_MANY_SUBJECTS = frozenset({"pick", "score"})
"""A null of these kinds names no subject: it takes back all that the rater gave of the kind, on that turn, until then."""

Fate = Literal["revised", "retraction", "conversation", "orphan"]
"""What became of a rating that does not stand on an exchange: a later word of the same rater took its place or took it
back; it is that taking back; it speaks of a whole conversation; its turn is not known."""

Event = TypeVar("Event", Turn, Rating)


class Reduced(Struct, frozen=True):
    """All exchanges as of a moment, and an account of every rating that is on none."""

    exchanges: dict[TurnKey, Exchange]
    conversation_ratings: tuple[Rating, ...]
    """Live ratings of whole conversations: they train nothing by themselves."""
    orphans: tuple[Rating, ...]
    ratings: dict[str, int]
    """Distinct rating events by kind, whatever became of them."""
    fates: dict[Fate, int]
    duplicates: int
    """Facts that repeat an event id."""
    conflicts: int
    """Event or turn ids that name different payloads."""
    orphan_verdicts: int
    """Judgements of turns that are not known."""


class Distinct(NamedTuple, Generic[Event]):
    """One payload, and its content hash, under each event id."""

    events: dict[tuple[str, str], tuple[str, Event]]
    duplicates: int
    conflicts: int


def reduce(
    turns: Iterable[tuple[Turn, str]],
    ratings: Iterable[tuple[Rating, str]],
    verdicts: Iterable[Judgement],
    as_of_us: int,
) -> Reduced:
    """The exchanges that the facts amount to, leaving out what happened after `as_of_us`."""
    served = distinct((turn, content_hash) for turn, content_hash in turns if turn.occurred_at_us <= as_of_us)
    given = distinct((rating, content_hash) for rating, content_hash in ratings if rating.occurred_at_us <= as_of_us)
    by_turn, shared_turn_ids = _one_event_per_turn(served)

    fates: Counter[Fate] = Counter()
    placed: list[Rating] = []
    of_conversation: list[Rating] = []
    orphans: list[Rating] = []
    for _, rating in given.events.values():
        if rating.turn_id is None:
            of_conversation.append(rating)
        elif (rating.tenant, rating.turn_id) in by_turn:
            placed.append(rating)
        else:
            orphans.append(rating)
    live = live_ratings(placed, fates)
    live_of_conversation = live_ratings(of_conversation, fates)
    fates["conversation"] += len(live_of_conversation)
    fates["orphan"] += len(orphans)

    judged, unjudged, orphan_verdicts = _judgements(verdicts, by_turn, as_of_us)
    said: defaultdict[TurnKey, list[Rating]] = defaultdict(list)
    for rating in live:
        assert rating.turn_id is not None
        said[rating.tenant, rating.turn_id].append(rating)
    exchanges = {
        key: Exchange(
            turn=turn,
            content_hash=content_hash,
            ratings=tuple(sorted(said[key], key=_given_order)) if key in said else (),
            verdicts=tuple(sorted(judged[key], key=_verdict_order)) if key in judged else (),
            unjudged=None if key in judged else unjudged.get(key),
        )
        for key, (content_hash, turn) in by_turn.items()
    }
    return Reduced(
        exchanges=exchanges,
        conversation_ratings=tuple(sorted(live_of_conversation, key=_given_order)),
        orphans=tuple(sorted(orphans, key=_given_order)),
        ratings=dict(Counter(rating.kind for _, rating in given.events.values())),
        fates=dict(+fates),
        duplicates=served.duplicates + given.duplicates,
        conflicts=served.conflicts + given.conflicts + shared_turn_ids,
        orphan_verdicts=orphan_verdicts,
    )


def distinct(facts: Iterable[tuple[Event, str]]) -> Distinct[Event]:
    """One payload per (tenant, event id), the one with the smaller content hash.

    The hash does not cover the hashed user id, and nothing may depend on that id's value: payloads that differ in
    nothing else belong to nobody.
    """
    events: dict[tuple[str, str], tuple[str, Event]] = {}
    conflicting = set()
    duplicates = 0
    for event, content_hash in facts:
        key = (event.tenant, event.event_id)
        held = events.get(key)
        if held is None:
            events[key] = (content_hash, event)
            continue
        duplicates += 1
        if held[0] != content_hash:
            conflicting.add(key)
            events[key] = min(held, (content_hash, event), key=lambda payload: payload[0])
        elif held[1].user_id != event.user_id:
            events[key] = (content_hash, msgspec.structs.replace(event, user_id=None))
    return Distinct(events, duplicates, len(conflicting))


def live_ratings(ratings: Iterable[Rating], fates: Counter[Fate]) -> list[Rating]:
    """Each rater's last word of each kind; what gave way is counted in `fates`."""
    words: defaultdict[Hashable, list[Rating]] = defaultdict(list)
    taken_back: dict[Hashable, tuple[int, str]] = {}
    for rating in ratings:
        if rating.kind in _MANY_SUBJECTS and rating.value is None:
            fates["retraction"] += 1
            taker = _rater_on(rating)
            taken_back[taker] = max(_given_order(rating), taken_back.get(taker, _given_order(rating)))
        else:
            words[_subject(rating)].append(rating)
    live = []
    for group in words.values():
        last = max(group, key=_given_order)
        fates["revised"] += len(group) - 1
        if last.value is None:
            fates["retraction"] += 1
        elif _given_order(last) < taken_back.get(_rater_on(last), _given_order(last)):
            fates["revised"] += 1
        else:
            live.append(last)
    return live


def is_rated(exchange: Exchange) -> bool:
    """Whether somebody rated the turn itself."""
    return any(rating.kind in RATED_BY for rating in exchange.ratings)


def _rater_on(rating: Rating) -> Hashable:
    """Who speaks, of what, in what kind. Raters without an id are one rater per turn and source."""
    return (rating.tenant, rating.conversation_id if rating.turn_id is None else None, rating.turn_id,
            rating.source, rating.user_id, rating.kind)  # fmt: skip


def _subject(rating: Rating) -> Hashable:
    """Of ratings with one subject only the last counts."""
    value = rating.value
    if isinstance(value, Pick):
        question = tuple(sorted((rating.turn_id or "", value.over)))
        return ("pick", rating.tenant, rating.source, rating.user_id, question)
    return (_rater_on(rating), rating.rubric, value.name if isinstance(value, Score) else None)


def _one_event_per_turn(served: Distinct[Turn]) -> tuple[dict[TurnKey, tuple[str, Turn]], int]:
    by_turn: dict[TurnKey, tuple[str, Turn]] = {}
    shared = set()
    for content_hash, turn in served.events.values():
        key = (turn.tenant, turn.turn_id)
        held = by_turn.get(key)
        if held is None:
            by_turn[key] = (content_hash, turn)
            continue
        shared.add(key)
        by_turn[key] = min(held, (content_hash, turn), key=lambda payload: (payload[0], payload[1].event_id))
    return by_turn, len(shared)


def _judgements(
    verdicts: Iterable[Judgement], known: dict[TurnKey, tuple[str, Turn]], as_of_us: int
) -> tuple[dict[TurnKey, list[Verdict]], dict[TurnKey, Unjudged], int]:
    """The verdict that counts on each question, under both its turns; the latest reason why a turn has none."""
    by_id: dict[tuple[str, str], Judgement] = {}
    for judgement in verdicts:
        if judgement.occurred_at_us <= as_of_us:
            key = (judgement.tenant, judgement.verdict_id)
            held = by_id.get(key)
            by_id[key] = judgement if held is None or held == judgement else min(held, judgement, key=_payload_order)
    of_question: dict[Hashable, Verdict] = {}
    unjudged: dict[TurnKey, Unjudged] = {}
    orphans = 0
    for judgement in by_id.values():
        turn_key = (judgement.tenant, judgement.turn_id)
        if turn_key not in known:
            orphans += 1
        elif isinstance(judgement, Verdict):
            question = (judgement.tenant, frozenset((judgement.turn_id, judgement.other_turn_id)))
            of_question[question] = max(judgement, of_question.get(question, judgement), key=_verdict_order)
        else:
            unjudged[turn_key] = max(judgement, unjudged.get(turn_key, judgement), key=_verdict_order)
    judged: defaultdict[TurnKey, list[Verdict]] = defaultdict(list)
    for verdict in of_question.values():
        for turn_id in {verdict.turn_id, verdict.other_turn_id}:
            if turn_id is not None and (verdict.tenant, turn_id) in known:
                judged[verdict.tenant, turn_id].append(verdict)
    return judged, unjudged, orphans


def _payload_order(judgement: Judgement) -> tuple[bool, bytes]:
    """A verdict counts before the lack of one under the same id, then the smaller payload."""
    return isinstance(judgement, Unjudged), msgspec.json.encode(judgement, order="deterministic")


def _given_order(rating: Rating) -> tuple[int, str]:
    return rating.occurred_at_us, rating.event_id


def _verdict_order(judgement: Judgement) -> tuple[int, str]:
    return judgement.occurred_at_us, judgement.verdict_id
