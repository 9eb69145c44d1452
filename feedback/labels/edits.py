"""Corrected replies: an expert's edit is imitated as it is, a user's only where someone trusted agrees.

A user's edit counts if experts or, where none spoke, the judge found the original wanting: they agree that it needed
correcting, though nobody vouched for the correction itself. Hence its lower weight and the cap per user.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Set

from feedback.content import Text
from feedback.digests import masked
from feedback.labels.exchanges import Exchange
from feedback.labels.outline import Outline, text_digest
from feedback.labels.uses import Uses, label_id, place_of, unusable
from feedback.labels.votes import SOURCE_WEIGHT, USER_EDIT_WEIGHT, Decision, Vote, decide, event_ids
from feedback.records import Demonstration, PreferencePair, Provenance, Rating, TurnKey
from feedback.texts import is_blank
from feedback.thoughts import answer_of


def edits(
    exchanges: Mapping[TurnKey, Exchange],
    kept: Set[TurnKey],
    texts: Mapping[TurnKey, Text],
    qualities: Mapping[TurnKey, Decision],
    max_user_edits: int,
    uses: Uses,
) -> tuple[list[PreferencePair], list[Demonstration]]:
    """The pairs and demonstrations that edits of turns in `kept` give; `qualities` is what was decided of each reply."""
    pairs: list[PreferencePair] = []
    demonstrations: list[Demonstration] = []
    by_users: defaultdict[tuple[str, str, str], list[Demonstration]] = defaultdict(list)
    for key, exchange in exchanges.items():
        turn = exchange.turn
        experts, users = _changing(exchange, key in kept, uses)
        superseded = tuple(sorted(edit.event_id for edit in users)) if experts else ()
        for edit in experts:
            provenance = _provenance(edit, superseded=superseded)
            pairs.append(_pair(turn, texts[key], edit, provenance))
            demonstrations.append(_demonstration(turn, texts[key], edit, SOURCE_WEIGHT["expert"], provenance))
        agreeing = () if experts else _found_wanting(qualities.get(key))
        uses.ratings["used"] += len(experts)
        uses.ratings["superseded"] += len(superseded)
        uses.ratings["unconfirmed"] += 0 if experts or agreeing else len(users)
        for edit in users if agreeing else ():
            rater = ("user", edit.user_id) if edit.user_id is not None else ("in", turn.conversation_id)
            provenance = _provenance(edit, agreeing)
            demonstration = _demonstration(turn, texts[key], edit, USER_EDIT_WEIGHT, provenance)
            by_users[edit.tenant, *rater].append(demonstration)
    for theirs in by_users.values():
        # An id is a hash of the event's, so the smallest are a fair sample; of those made with a key, what they say decides.
        demonstrations += sorted(theirs, key=lambda edit: (masked(edit.id), edit.reply))[:max_user_edits]
        uses.ratings["used"] += min(len(theirs), max_user_edits)
        uses.ratings["over_edit_cap"] += max(len(theirs) - max_user_edits, 0)
    return pairs, demonstrations


def _changing(exchange: Exchange, in_window: bool, uses: Uses) -> tuple[list[Rating], list[Rating]]:
    """The experts' and the users' edits that change a reply that may be learned from."""
    given = [rating for rating in exchange.ratings if rating.kind == "edit" and rating.source != "system"]
    if not given:
        return [], []
    why_not = unusable(exchange.turn, in_window) or ("cut" if exchange.turn.cut else None)
    if why_not is not None:
        uses.ratings[why_not] += len(given)
        return [], []
    telling = [edit for edit in given if not is_blank(_edited(edit))]
    changing = [edit for edit in telling if text_digest(_edited(edit)) != exchange.turn.reply]
    uses.ratings["neutral"] += len(given) - len(telling)
    uses.ratings["unchanged"] += len(telling) - len(changing)
    experts = [edit for edit in changing if edit.source == "expert"]
    return experts, [edit for edit in changing if edit.source == "user"]


def _found_wanting(quality: Decision | None) -> tuple[Vote, ...]:
    """The votes of experts, else of the judge, if they say that the reply was bad."""
    votes = (*quality.counted, *quality.superseded) if quality else ()
    trusted = decide(vote for vote in votes if vote.source in ("expert", "judge") and vote.kind != "signal")
    return trusted.counted if trusted is not None and trusted.value < 0.5 else ()


def _edited(edit: Rating) -> str:
    return answer_of(edit.value) if isinstance(edit.value, str) else ""


def _provenance(edit: Rating, agreeing: tuple[Vote, ...] = (), superseded: tuple[str, ...] = ()) -> Provenance:
    return Provenance(
        source=edit.source,
        event_ids=tuple(sorted({edit.event_id, *event_ids(agreeing)})),
        at_us=max([edit.occurred_at_us, *(vote.at_us for vote in agreeing)]),
        rater=edit.user_id,
        rubric=edit.rubric,
        superseded=superseded,
    )


def _pair(turn: Outline, text: Text, edit: Rating, provenance: Provenance) -> PreferencePair:
    return PreferencePair(
        id=label_id("edit", edit.tenant, edit.event_id),
        **place_of(turn, text),
        chosen=_edited(edit),
        rejected=text.reply,
        how="edit",
        preference=1.0,
        weight=SOURCE_WEIGHT["expert"],
        provenance=provenance,
    )


def _demonstration(turn: Outline, text: Text, edit: Rating, weight: float, provenance: Provenance) -> Demonstration:
    return Demonstration(
        id=label_id("demonstration", edit.tenant, edit.event_id),
        **place_of(turn, text),
        reply=_edited(edit),
        weight=weight,
        provenance=provenance,
    )
