"""From exchanges to labels: preference pairs, unpaired labels and demonstrations.

- A pick, or the judge's comparison, of two replies to one context is a pair; a tie is nothing.
- Thumbs, stars (3 is nothing) and the judge's score are an unpaired label; so, against the reply, is a regenerate, which
  makes a pair only if its second reply earned a positive label and the first did not.
- An expert's edit is a demonstration, and a pair over the reply it corrects. A user's edit is a demonstration only if an
  expert or, where none spoke, the judge found that reply wanting: they agree that it needed correcting, though nobody
  vouched for the correction itself, hence its lower weight and the cap per user.

Experts come before users before the judge on one question (see votes.py). Everything is a function of the set of
exchanges; ids name the question that a label answers, so that a late rating changes a row and does not add one.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Set
from typing import Any, Literal

import msgspec
from msgspec import Struct

from feedback.content import prompt_of, text_of, untrainable
from feedback.exchanges import TurnKey
from feedback.records import (
    Demonstration,
    Exchange,
    Message,
    PreferencePair,
    Provenance,
    Rating,
    Split,
    Turn,
    UnpairedLabel,
)
from feedback.splits import split_of
from feedback.votes import (
    SOURCE_WEIGHT,
    USER_EDIT_WEIGHT,
    Decision,
    Vote,
    comparison_votes,
    decide,
    event_ids,
    quality_votes,
    speaks,
)

Use = Literal[
    "used",
    "superseded",
    "neutral",
    "mismatched",
    "untrainable",
    "outside_window",
    "inert",
    "unconfirmed",
    "over_edit_cap",
    "over_judge_share",
]
"""What a live rating or verdict came to: it is in a label; gave way to a better source; decides nothing (a tie, three
stars, an unchanged edit); compares replies to different contexts, or an unknown one; its turn may not be learned from, or
is not in the window; is of a kind that trains nothing; is a user's edit that nobody confirmed, or one too many; is a
verdict beyond the judge's share."""

Question = tuple[str, str, str]
"""(tenant, turn id, turn id): which of two replies is better; the ids in order."""


class Labels(Struct, frozen=True):
    """What a window teaches, each sorted by id, and the uses that its ratings and verdicts were put to."""

    pairs: tuple[PreferencePair, ...]
    unpaired: tuple[UnpairedLabel, ...]
    demonstrations: tuple[Demonstration, ...]
    ratings: dict[Use, int]
    verdicts: dict[Use, int]


class Text(Struct, frozen=True):
    """The trainable text of a turn."""

    prompt: list[Message]
    reply: str


def labels(exchanges: Mapping[TurnKey, Exchange], kept: Set[TurnKey], max_user_edits: int) -> Labels:
    """The labels of the exchanges in `kept`; the others only supply second replies and better sources."""
    uses = _Uses()
    qualities = _qualities(exchanges)
    unpaired = []
    for key, decision in qualities.items():
        use = _standing(exchanges[key].turn, key in kept) or ("neutral" if decision.value == 0.5 else "used")
        uses.count_decision(decision, use)
        if use == "used":
            unpaired.append(_unpaired_label(exchanges[key].turn, decision))
    pairs = []
    for question, votes in _comparisons(exchanges, qualities).items():
        decided = decide(votes)
        assert decided is not None
        use = _comparable(question, exchanges, kept) or ("neutral" if decided.value == 0.5 else "used")
        uses.count_decision(decided, use)
        if use == "used":
            pairs.append(_compared_pair(question, exchanges, decided))
    edited, demonstrations = _edits(exchanges, kept, qualities, max_user_edits, uses)
    for exchange in exchanges.values():
        uses.ratings["inert"] += sum(_is_inert(rating) for rating in exchange.ratings)
        uses.verdicts["neutral"] += sum(
            verdict.turn_id == exchange.turn.turn_id and not speaks(verdict) for verdict in exchange.verdicts
        )
    return Labels(
        pairs=tuple(sorted(pairs + edited, key=_by_id)),
        unpaired=tuple(sorted(unpaired, key=_by_id)),
        demonstrations=tuple(sorted(demonstrations, key=_by_id)),
        ratings=+uses.ratings,
        verdicts=+uses.verdicts,
    )


class _Uses:
    def __init__(self) -> None:
        self.ratings: Counter[Use] = Counter()
        self.verdicts: Counter[Use] = Counter()

    def count_decision(self, decision: Decision, use: Use) -> None:
        self._count(decision.counted, use)
        self._count(decision.superseded, "superseded" if use in ("used", "neutral") else use)

    def _count(self, votes: tuple[Vote, ...], use: Use) -> None:
        self.ratings[use] += sum(vote.origin == "rating" for vote in votes)
        self.verdicts[use] += sum(vote.origin == "verdict" for vote in votes)


def _is_inert(rating: Rating) -> bool:
    """Comments, scores and most signals train nothing; of what systems send, only `regenerate` does."""
    if rating.kind == "signal":
        return bool(rating.value != "regenerate")
    return rating.source == "system" or rating.kind in ("comment", "score")


def _standing(turn: Turn, in_window: bool) -> Use | None:
    if untrainable(turn) is not None:
        return "untrainable"
    return None if in_window else "outside_window"


# Quality of one reply


def _qualities(exchanges: Mapping[TurnKey, Exchange]) -> dict[TurnKey, Decision]:
    votes = {key: quality_votes(exchange) for key, exchange in exchanges.items()}
    for first, second in _named_replacements(exchanges):
        votes[first].append(_regenerated(exchanges[second].turn, 0.0))
    return {key: decided for key, cast in votes.items() if (decided := decide(cast)) is not None}


def _unpaired_label(turn: Turn, decision: Decision) -> UnpairedLabel:
    kinds = {vote.kind for vote in decision.counted}
    return UnpairedLabel(
        id=_id("quality", turn.tenant, turn.turn_id),
        **_place(turn),
        reply=_text(turn).reply,
        kind="thumbs"
        if "thumbs" in kinds
        else "stars"
        if "stars" in kinds
        else "verdict"
        if "verdict" in kinds
        else "signal",
        desirable=decision.value,
        weight=decision.weight,
        provenance=decision.provenance(),
    )


# Replacements: a turn that was regenerated, and its second reply


def _named_replacements(exchanges: Mapping[TurnKey, Exchange]) -> Iterator[tuple[TurnKey, TurnKey]]:
    """(first, second) where the second turn names the first, in the same conversation, as the one it replaced."""
    for key, exchange in exchanges.items():
        turn = exchange.turn
        if turn.replaces is None or turn.replaces == turn.turn_id:
            continue
        first = exchanges.get((turn.tenant, turn.replaces))
        if first is not None and first.turn.conversation_id == turn.conversation_id:
            yield (turn.tenant, turn.replaces), key


def _signalled_replacements(exchanges: Mapping[TurnKey, Exchange]) -> Iterator[tuple[TurnKey, TurnKey]]:
    """(first, second) where the first has a `regenerate` and the second is the next turn that answers its context."""
    signalled = {
        key
        for key, exchange in exchanges.items()
        if any(rating.kind == "signal" and rating.value == "regenerate" for rating in exchange.ratings)
    }
    conversations: defaultdict[tuple[str, str], list[Turn]] = defaultdict(list)
    with_signals = {(key[0], exchanges[key].turn.conversation_id) for key in signalled}
    for exchange in exchanges.values():
        turn = exchange.turn
        if (turn.tenant, turn.conversation_id) in with_signals:
            conversations[turn.tenant, turn.conversation_id].append(turn)
    for key in signalled:
        first = exchanges[key].turn
        later = [
            turn
            for turn in conversations[first.tenant, first.conversation_id]
            if _served_order(turn) > _served_order(first) and turn.messages == first.messages
        ]
        if later:
            yield key, (key[0], min(later, key=_served_order).turn_id)


def _regenerated(second: Turn, value: float, support: tuple[Vote, ...] = ()) -> Vote:
    ids = tuple(sorted({second.event_id, *event_ids(support)}))
    at_us = max([second.occurred_at_us, *(vote.at_us for vote in support)])
    return Vote(origin="turn", kind="signal", event_ids=ids, at_us=at_us, source="system", value=value)


# Comparison of two replies


def _comparisons(
    exchanges: Mapping[TurnKey, Exchange], qualities: Mapping[TurnKey, Decision]
) -> dict[Question, list[Vote]]:
    votes: defaultdict[Question, list[Vote]] = defaultdict(list)
    for (tenant, _), exchange in exchanges.items():
        for (a, b), vote in comparison_votes(exchange):
            votes[tenant, a, b].append(vote)
    replacements = {*_named_replacements(exchanges), *_signalled_replacements(exchanges)}
    for first, second in replacements:
        earned = qualities.get(second)
        if earned is not None and earned.value > 0.5 and first in qualities and qualities[first].value < 0.5:
            a, b = sorted((first[1], second[1]))
            value = earned.value if a == second[1] else 1 - earned.value
            votes[first[0], a, b].append(_regenerated(exchanges[second].turn, value, earned.counted))
    return votes


def _comparable(question: Question, exchanges: Mapping[TurnKey, Exchange], kept: Set[TurnKey]) -> Use | None:
    """Why the two replies can't make a pair; None where they can. A pair is never made across splits."""
    tenant, a, b = question
    if a == b or (tenant, a) not in exchanges or (tenant, b) not in exchanges:
        return "mismatched"
    one, other = exchanges[tenant, a].turn, exchanges[tenant, b].turn
    if untrainable(one) or untrainable(other):
        return "untrainable"
    if prompt_of(one.messages) != prompt_of(other.messages) or split_of(one.bucket) != split_of(other.bucket):
        return "mismatched"
    if (tenant, a) not in kept and (tenant, b) not in kept:
        return "outside_window"
    return "neutral" if _text(one).reply == _text(other).reply else None


def _compared_pair(question: Question, exchanges: Mapping[TurnKey, Exchange], decision: Decision) -> PreferencePair:
    tenant, a, b = question
    best, worst = (a, b) if decision.value > 0.5 else (b, a)
    turn = exchanges[tenant, best].turn
    kind = decision.counted[0].kind
    return PreferencePair(
        id=_id("comparison", *question),
        **_place(turn),
        chosen=_text(turn).reply,
        rejected=_text(exchanges[tenant, worst].turn).reply,
        how="verdict" if kind == "verdict" else "regenerate" if kind == "signal" else "pick",
        preference=max(decision.value, 1 - decision.value),
        weight=decision.weight,
        provenance=decision.provenance(),
    )


# Edits


def _edits(
    exchanges: Mapping[TurnKey, Exchange],
    kept: Set[TurnKey],
    qualities: Mapping[TurnKey, Decision],
    max_user_edits: int,
    uses: _Uses,
) -> tuple[list[PreferencePair], list[Demonstration]]:
    pairs: list[PreferencePair] = []
    demonstrations: list[Demonstration] = []
    by_users: defaultdict[tuple[str, str, str], list[Demonstration]] = defaultdict(list)
    for key, exchange in exchanges.items():
        turn = exchange.turn
        edits = [rating for rating in exchange.ratings if rating.kind == "edit" and rating.source != "system"]
        if not edits:
            continue
        standing = _standing(turn, key in kept)
        if standing is not None:
            uses.ratings[standing] += len(edits)
            continue
        changing = [edit for edit in edits if _edited(edit).strip() not in ("", _text(turn).reply.strip())]
        uses.ratings["neutral"] += len(edits) - len(changing)
        experts = [edit for edit in changing if edit.source == "expert"]
        users = [edit for edit in changing if edit.source == "user"]
        superseded = tuple(sorted(edit.event_id for edit in users)) if experts else ()
        for edit in experts:
            provenance = _edit_provenance(edit, superseded=superseded)
            pairs.append(_edit_pair(turn, edit, provenance))
            demonstrations.append(_demonstration(turn, edit, SOURCE_WEIGHT["expert"], provenance))
        agreeing = () if experts else _found_wanting(qualities.get(key))
        uses.ratings["used"] += len(experts)
        uses.ratings["superseded"] += len(superseded)
        uses.ratings["unconfirmed"] += 0 if experts or agreeing else len(users)
        for edit in users if agreeing else ():
            provenance = _edit_provenance(edit, agreeing)
            rater = ("user", edit.user_id) if edit.user_id is not None else ("conversation", turn.conversation_id)
            by_users[edit.tenant, *rater].append(_demonstration(turn, edit, USER_EDIT_WEIGHT, provenance))
    for theirs in by_users.values():
        demonstrations += sorted(theirs, key=_by_id)[:max_user_edits]  # an id is a hash: this is a fair sample
        uses.ratings["used"] += min(len(theirs), max_user_edits)
        uses.ratings["over_edit_cap"] += max(len(theirs) - max_user_edits, 0)
    return pairs, demonstrations


def _found_wanting(quality: Decision | None) -> tuple[Vote, ...]:
    """The votes of experts, else of the judge, if they say that the reply was bad."""
    votes = (*quality.counted, *quality.superseded) if quality else ()
    trusted = decide(vote for vote in votes if vote.source in ("expert", "judge") and vote.kind != "signal")
    return trusted.counted if trusted is not None and trusted.value < 0.5 else ()


def _edited(edit: Rating) -> str:
    return edit.value if isinstance(edit.value, str) else ""


def _edit_provenance(edit: Rating, agreeing: tuple[Vote, ...] = (), superseded: tuple[str, ...] = ()) -> Provenance:
    return Provenance(
        source=edit.source,
        event_ids=tuple(sorted({edit.event_id, *event_ids(agreeing)})),
        at_us=max([edit.occurred_at_us, *(vote.at_us for vote in agreeing)]),
        rater=edit.user_id,
        rubric=edit.rubric,
        superseded=superseded,
    )


def _edit_pair(turn: Turn, edit: Rating, provenance: Provenance) -> PreferencePair:
    return PreferencePair(
        id=_id("edit", edit.tenant, edit.event_id),
        **_place(turn),
        chosen=_edited(edit),
        rejected=_text(turn).reply,
        how="edit",
        preference=1.0,
        weight=SOURCE_WEIGHT["expert"],
        provenance=provenance,
    )


def _demonstration(turn: Turn, edit: Rating, weight: float, provenance: Provenance) -> Demonstration:
    return Demonstration(
        id=_id("demonstration", edit.tenant, edit.event_id),
        **_place(turn),
        reply=_edited(edit),
        weight=weight,
        provenance=provenance,
    )


# Shared


def _place(turn: Turn) -> dict[str, Any]:
    """What every label says of the turn it stands on."""
    return {
        "prompt": _text(turn).prompt,
        "split": split_of(turn.bucket),
        "tenant": turn.tenant,
        "conversation_id": turn.conversation_id,
        "turn_id": turn.turn_id,
        "locale": turn.locale,
    }


def _text(turn: Turn) -> Text:
    prompt, reply = prompt_of(turn.messages), text_of(turn.reply)
    assert prompt is not None, "ask untrainable() first"
    assert reply is not None, "ask untrainable() first"
    return Text(prompt, reply)


def _served_order(turn: Turn) -> tuple[int, str]:
    return turn.occurred_at_us, turn.turn_id


def _by_id(label: PreferencePair | UnpairedLabel | Demonstration) -> str:
    return label.id


def _id(*question: str) -> str:
    return hashlib.sha256(msgspec.json.encode(question)).hexdigest()[:32]


__all__ = ["Labels", "Split", "Use", "labels"]
