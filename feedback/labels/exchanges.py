"""What was said: of all ratings and verdicts, what counts, and each turn with what counts of it.

Order-free and indifferent to duplicates, so that any replay of a log gives the same exchanges:
- of several payloads under one event id those of the highest origin count (see `records.RANKS`), and of these the one with
  the smaller content hash (of turns: see census.py);
- of one rater's ratings of one kind on one turn (of `score`: of one name; of rubric items: of one item; of picks: of one
  question, whichever of its two turns was rated) the greatest (`occurred_at_us`, `event_id`) counts, and a null takes it
  back;
- of the verdicts on one question the greatest (`occurred_at_us`, `verdict_id`) counts.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Set
from sys import intern
from typing import Any, Literal, NamedTuple, TypeVar

import msgspec
from msgspec import Struct

from feedback.labels.outline import Outline
from feedback.records import RANKS, RATED_BY, Judgement, Pick, Rating, Score, TurnKey, Unjudged, Verdict

_NOTHING: dict[str, Any] = {}
Event = TypeVar("Event", Rating, Judgement)

_MANY_SUBJECTS = frozenset({"pick", "score"})
"""A null of these kinds names no subject: it takes back all that the rater gave of the kind, on that turn, until then."""

Fate = Literal["revised", "retraction", "conversation", "too_old", "orphan"]
"""What became of a rating that does not stand on an exchange: a later word of the same rater took its place or took it
back; it is that taking back; it speaks of a whole conversation; its turn is older than the window; its conversation has no such
turn."""


class Exchange(Struct, frozen=True, kw_only=True):
    """A turn and what counts of all that was said of it."""

    turn: Outline
    ratings: tuple[Rating, ...] = ()
    verdicts: tuple[Verdict, ...] = ()
    edit_verdicts: tuple[Verdict, ...] = ()
    """What the judge said of edits of the reply."""


class Said(Struct, frozen=True):
    """What counts of all ratings and verdicts as of a moment, by the turn that it is of, and an account of the rest."""

    ratings: dict[TurnKey, tuple[Rating, ...]]
    verdicts: dict[TurnKey, tuple[Verdict, ...]]
    """Of replies; those of edits are `edit_verdicts`."""
    edit_verdicts: dict[TurnKey, tuple[Verdict, ...]]
    unjudged: dict[TurnKey, Unjudged]
    """The latest reason for which the judge gave no verdict of the reply, where it gave none."""
    conversation_ratings: tuple[Rating, ...]
    """Live ratings of whole conversations: they train nothing by themselves."""
    orphans: tuple[Rating, ...]
    kinds: dict[str, int]
    """Distinct rating events by kind, whatever became of them."""
    fates: dict[Fate, int]
    duplicates: int
    """Ratings that repeat an event id."""
    conflicts: int
    """Event ids of ratings that name different payloads."""
    orphan_verdicts: int
    """Judgements of turns that are not known."""

    @property
    def turns(self) -> Set[TurnKey]:
        """The turns that somebody spoke of."""
        return self.ratings.keys() | self.verdicts.keys() | self.edit_verdicts.keys()


class Distinct(NamedTuple):
    """One payload, and its content hash, under each event id."""

    events: dict[tuple[str, str], tuple[str, Rating]]
    duplicates: int
    conflicts: int


def said(
    ratings: Iterable[tuple[Rating, str]],
    verdicts: Iterable[Judgement],
    known: Callable[[Set[TurnKey]], Set[TurnKey]],
    as_of_us: int,
    older: Callable[[Set[TurnKey]], Set[TurnKey]] = lambda _: frozenset(),
) -> Said:
    """What the facts up to `as_of_us` say; `known` tells which turns there are, `older` which there were before."""
    given = distinct((_lean(rating), name) for rating, name in ratings if rating.occurred_at_us <= as_of_us)
    judgements = _by_id(_lean(verdict) for verdict in verdicts if verdict.occurred_at_us <= as_of_us)
    rated = {key for _, rating in given.events.values() if (key := rating.key) is not None}
    turns = known(rated | {key for judgement in judgements for key in turns_of(judgement)})
    gone = older(rated - turns)

    fates: Counter[Fate] = Counter()
    placed: list[Rating] = []
    of_conversation: list[Rating] = []
    orphans: list[Rating] = []
    fates["too_old"] = sum(rating.key in gone for _, rating in given.events.values())
    for _, rating in given.events.values():
        if rating.key is None:
            of_conversation.append(rating)
        elif rating.key not in gone:
            (placed if rating.key in turns else orphans).append(rating)
    live: defaultdict[TurnKey, list[Rating]] = defaultdict(list)
    for rating in live_ratings(placed, fates):
        assert rating.key is not None
        live[rating.key].append(rating)
    live_of_conversation = live_ratings(of_conversation, fates)
    fates["conversation"] += len(live_of_conversation)
    fates["orphan"] += len(orphans)

    of_edits = [judgement for judgement in judgements if judgement.edit is not None]
    of_replies = [judgement for judgement in judgements if judgement.edit is None]
    judged, unjudged, orphan_verdicts = _judgements(of_replies, turns)
    edits_judged, _, orphans_of_edits = _judgements(of_edits, turns)
    return Said(
        ratings={key: tuple(sorted(mine, key=_given_order)) for key, mine in live.items()},
        verdicts={key: tuple(sorted(mine, key=_verdict_order)) for key, mine in judged.items()},
        edit_verdicts={key: tuple(sorted(mine, key=_verdict_order)) for key, mine in edits_judged.items()},
        unjudged={key: reason for key, reason in unjudged.items() if key not in judged},
        conversation_ratings=tuple(sorted(live_of_conversation, key=_given_order)),
        orphans=tuple(sorted(orphans, key=_given_order)),
        kinds=dict(Counter(rating.kind for _, rating in given.events.values())),
        fates=dict(+fates),
        duplicates=given.duplicates,
        conflicts=given.conflicts,
        orphan_verdicts=orphan_verdicts + orphans_of_edits,
    )


def join(turns: Iterable[Outline], said: Said) -> dict[TurnKey, Exchange]:
    """Each of these turns with what was said of it."""
    return {
        turn.key: Exchange(
            turn=turn,
            ratings=said.ratings.get(turn.key, ()),
            verdicts=said.verdicts.get(turn.key, ()),
            edit_verdicts=said.edit_verdicts.get(turn.key, ()),
        )
        for turn in turns
    }


def distinct(facts: Iterable[tuple[Rating, str]]) -> Distinct:
    """One payload per (tenant, event id), of the highest origin, and of these the one with the smaller content hash.

    The hash does not cover the hashed user id, and nothing may depend on that id's value: payloads of one origin that differ
    in nothing else belong to nobody.
    """
    events: dict[tuple[str, str], tuple[str, Rating]] = {}
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
        if (held[0], RANKS[held[1].origin]) != (content_hash, RANKS[event.origin]):
            events[key] = min(held, (content_hash, event), key=_payload_rank)
        elif held[1].user_id != event.user_id:
            events[key] = (content_hash, msgspec.structs.replace(event, user_id=None))
    return Distinct(events, duplicates, len(conflicting))


def _payload_rank(payload: tuple[str, Rating]) -> tuple[int, str]:
    return -RANKS[payload[1].origin], payload[0]


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


def is_rated(ratings: Iterable[Rating]) -> bool:
    """Whether somebody rated the turn itself."""
    return any(rating.kind in RATED_BY for rating in ratings)


def _rater_on(rating: Rating) -> Hashable:
    """Who speaks, of what, in what kind. Raters without an id are one rater per turn and source."""
    return (rating.tenant, rating.conversation_id, rating.turn_id, rating.source, rating.user_id, rating.kind)


def _subject(rating: Rating) -> Hashable:
    """Of ratings with one subject only the last counts."""
    value = rating.value
    if isinstance(value, Pick):
        question = tuple(sorted((rating.turn_id or "", value.over)))
        return ("pick", rating.tenant, rating.conversation_id, rating.source, rating.user_id, question)
    return (_rater_on(rating), rating.rubric, value.name if isinstance(value, Score) else None)


def _lean(said: Event) -> Event:
    """Without what no rule looks at, and with one copy of the words that come again and again: there may be millions."""
    changes: dict[str, Any] = {"tenant": intern(said.tenant)}
    if isinstance(said, Rating):
        changes |= {"user_id": said.user_id and intern(said.user_id), "tags": _NOTHING, "extra": _NOTHING}
    elif isinstance(said, Verdict):
        changes |= {name: intern(getattr(said, name)) for name in ("model", "rubric", "prompt_hash")}
        changes |= {"request_id": "", "rationale": "", "items": _NOTHING}
    return msgspec.structs.replace(said, **changes)


def _by_id(judgements: Iterable[Judgement]) -> list[Judgement]:
    """One judgement under each id."""
    by_id: dict[tuple[str, str], Judgement] = {}
    for judgement in judgements:
        key = (judgement.tenant, judgement.verdict_id)
        held = by_id.get(key)
        by_id[key] = judgement if held is None or held == judgement else min(held, judgement, key=_payload_order)
    return list(by_id.values())


def turns_of(judgement: Judgement) -> Iterator[TurnKey]:
    """The turn that a judgement is of, and the one that it compares it with."""
    yield judgement.tenant, judgement.conversation_id, judgement.turn_id
    if judgement.other_turn_id is not None:
        yield judgement.tenant, judgement.conversation_id, judgement.other_turn_id


def _judgements(
    judgements: Iterable[Judgement], known: Set[TurnKey]
) -> tuple[dict[TurnKey, list[Verdict]], dict[TurnKey, Unjudged], int]:
    """The verdict that counts on each question, under both its turns; the latest reason why a turn has none."""
    of_question: dict[Hashable, Verdict] = {}
    unjudged: dict[TurnKey, Unjudged] = {}
    orphans = 0
    for judgement in judgements:
        turn_key, *_ = turns_of(judgement)
        if turn_key not in known:
            orphans += 1
        elif isinstance(judgement, Verdict):
            question = (turn_key[:2], frozenset((judgement.turn_id, judgement.other_turn_id)), judgement.edit)
            of_question[question] = max(judgement, of_question.get(question, judgement), key=_verdict_order)
        else:
            unjudged[turn_key] = max(judgement, unjudged.get(turn_key, judgement), key=_verdict_order)
    judged: defaultdict[TurnKey, list[Verdict]] = defaultdict(list)
    for verdict in of_question.values():
        for key in set(turns_of(verdict)) & known:
            judged[key].append(verdict)
    return judged, unjudged, orphans


def _payload_order(judgement: Judgement) -> tuple[bool, bytes]:
    """A verdict counts before the lack of one under the same id, then the smaller payload."""
    return isinstance(judgement, Unjudged), msgspec.json.encode(judgement, order="deterministic")


def _given_order(rating: Rating) -> tuple[int, str]:
    return rating.occurred_at_us, rating.event_id


def _verdict_order(judgement: Judgement) -> tuple[int, str]:
    return judgement.occurred_at_us, judgement.verdict_id
