"""Corrected replies: an expert's edit is imitated as it is, a user's only where someone trusted agrees.

A named user's edit counts if experts or, where none spoke, the judge found the original wanting: they agree that it needed
correcting, though nobody vouched for the correction itself. Hence its lower weight and the cap per user.

Whoever has no name may be anybody, and as many as they like: of such edits of a turn the last one counts, if the judge, asked
about these very two texts, prefers it and no expert found the reply good; and there is one cap for all of them together.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Set

import msgspec

from feedback.content import Text
from feedback.digests import edit_digest, masked
from feedback.labels.exchanges import Exchange
from feedback.labels.outline import Outline, text_digest
from feedback.labels.uses import Use, Uses, label_id, place_of, unusable
from feedback.labels.votes import SOURCE_WEIGHT, USER_EDIT_WEIGHT, Decision, Vote, decide, event_ids
from feedback.records import Demonstration, PreferencePair, Provenance, Rating, TurnKey, Verdict
from feedback.texts import is_blank
from feedback.thoughts import answer_of

Judged = tuple[Demonstration, Verdict]
"""What an edit would teach, and the verdict that prefers it."""


def edits(
    exchanges: Mapping[TurnKey, Exchange],
    kept: Set[TurnKey],
    texts: Mapping[TurnKey, Text],
    qualities: Mapping[TurnKey, Decision],
    max_user_edits: int,
    max_anonymous_edits: int,
    uses: Uses,
) -> tuple[list[PreferencePair], list[Demonstration]]:
    """The pairs and demonstrations that edits of turns in `kept` give; `qualities` is what was decided of each reply."""
    pairs: list[PreferencePair] = []
    demonstrations: list[Demonstration] = []
    by_users: defaultdict[tuple[str, str], list[Demonstration]] = defaultdict(list)
    by_anybody: list[Judged] = []
    for key, exchange in exchanges.items():
        turn = exchange.turn
        experts, users, why_not = _changing(exchange, key in kept, uses)
        superseded = tuple(sorted(edit.event_id for edit in users)) if experts else ()
        for edit in experts:
            provenance = _provenance(edit, superseded=superseded)
            pairs.append(_pair(turn, texts[key], edit, provenance))
            demonstrations.append(_demonstration(turn, texts[key], edit, SOURCE_WEIGHT["expert"], provenance))
        uses.ratings["used"] += len(experts)
        uses.ratings["superseded"] += len(superseded)
        if experts or not users:
            uses.verdicts[why_not or ("superseded" if experts else "mismatched")] += len(exchange.edit_verdicts)
            continue
        named = [edit for edit in users if edit.user_id is not None]
        agreeing = _found_wanting(qualities.get(key))
        uses.ratings["unconfirmed"] += 0 if agreeing else len(named)
        for edit in named if agreeing else ():
            provenance = _provenance(edit, agreeing)
            demonstration = _demonstration(turn, texts[key], edit, USER_EDIT_WEIGHT, provenance)
            by_users[edit.tenant, edit.user_id or ""].append(demonstration)
        by_anybody += _preferred(exchange, users, texts[key], _found_good(qualities.get(key)), uses)
    for theirs in by_users.values():
        demonstrations += sorted(theirs, key=_lot)[:max_user_edits]
        uses.ratings["used"] += min(len(theirs), max_user_edits)
        uses.ratings["over_edit_cap"] += max(len(theirs) - max_user_edits, 0)
    by_anybody.sort(key=lambda judged: _lot(judged[0]))
    demonstrations += [edit for edit, _ in by_anybody[:max_anonymous_edits]]
    for counted in (uses.ratings, uses.verdicts):
        counted["used"] += min(len(by_anybody), max_anonymous_edits)
        counted["over_edit_cap"] += max(len(by_anybody) - max_anonymous_edits, 0)
    return pairs, demonstrations


def asked_about(ratings: Iterable[Rating], reply: bytes) -> Rating | None:
    """Of what counts of a turn's ratings, the edit that the judge is asked about: the last one of people without a name that
    changes the reply (given as its `text_digest`). None where there is none, or an expert edited."""
    given = [edit for edit in ratings if _is_edit(edit) and _changes(edit, reply)]
    if any(edit.source == "expert" for edit in given):
        return None
    unnamed = [edit for edit in given if edit.user_id is None]
    return max(unnamed, default=None, key=lambda edit: (edit.occurred_at_us, masked(edit.event_id), edited(edit)))


def edited(edit: Rating) -> str:
    """What was made of the reply, without thoughts."""
    return answer_of(edit.value) if isinstance(edit.value, str) else ""


def _preferred(exchange: Exchange, users: list[Rating], text: Text, found_good: bool, uses: Uses) -> list[Judged]:
    """The edit of people without a name that the judge prefers, if it does."""
    unnamed = [edit for edit in users if edit.user_id is None]
    edit, preferred, said = asked_about(unnamed, exchange.turn.reply), list[Judged](), 0
    digest = edit and edit_digest(text.reply, edited(edit))
    for verdict in exchange.edit_verdicts:
        if verdict.edit != digest:
            uses.verdicts["mismatched"] += 1
        elif found_good:
            uses.verdicts["superseded"] += 1
        elif verdict.preference is None or verdict.preference <= 0.5:
            uses.verdicts["neutral"] += 1
        elif edit is not None:
            demonstration = _demonstration(exchange.turn, text, edit, USER_EDIT_WEIGHT, _vouched(edit, verdict))
            preferred.append((demonstration, verdict))
            said += 1
    uses.ratings["unconfirmed"] += len(unnamed) - said
    return preferred


def _changing(exchange: Exchange, in_window: bool, uses: Uses) -> tuple[list[Rating], list[Rating], Use | None]:
    """The experts' and the users' edits that change a reply that may be learned from; and why it may not."""
    why_not = unusable(exchange.turn, in_window) or ("cut" if exchange.turn.cut else None)
    given = [rating for rating in exchange.ratings if _is_edit(rating)]
    if not given:
        return [], [], why_not
    if why_not is not None:
        uses.ratings[why_not] += len(given)
        return [], [], why_not
    telling = [edit for edit in given if not is_blank(edited(edit))]
    changing = [edit for edit in telling if _changes(edit, exchange.turn.reply)]
    uses.ratings["neutral"] += len(given) - len(telling)
    uses.ratings["unchanged"] += len(telling) - len(changing)
    experts = [edit for edit in changing if edit.source == "expert"]
    return experts, [edit for edit in changing if edit.source == "user"], None


def _is_edit(rating: Rating) -> bool:
    return rating.kind == "edit" and rating.source != "system"


def _changes(edit: Rating, reply: bytes) -> bool:
    return not is_blank(edited(edit)) and text_digest(edited(edit)) != reply


def _found_wanting(quality: Decision | None) -> tuple[Vote, ...]:
    """The votes of experts, else of the judge, if they say that the reply was bad."""
    votes = (*quality.counted, *quality.superseded) if quality else ()
    trusted = decide(vote for vote in votes if vote.source in ("expert", "judge") and vote.kind != "signal")
    return trusted.counted if trusted is not None and trusted.value < 0.5 else ()


def _found_good(quality: Decision | None) -> bool:
    """Whether experts say that the reply was good."""
    votes = (*quality.counted, *quality.superseded) if quality else ()
    experts = decide(vote for vote in votes if vote.source == "expert" and vote.kind != "signal")
    return experts is not None and experts.value > 0.5


def _lot(edit: Demonstration) -> tuple[str, str]:
    """An id is a hash of the event's, so the smallest are a fair sample; of those made with a key, what they say decides."""
    return masked(edit.id), edit.reply


def _provenance(edit: Rating, agreeing: tuple[Vote, ...] = (), superseded: tuple[str, ...] = ()) -> Provenance:
    return Provenance(
        source=edit.source,
        event_ids=tuple(sorted({edit.event_id, *event_ids(agreeing)})),
        at_us=max([edit.occurred_at_us, *(vote.at_us for vote in agreeing)]),
        rater=edit.user_id,
        rubric=edit.rubric,
        superseded=superseded,
    )


def _vouched(edit: Rating, verdict: Verdict) -> Provenance:
    """Where an edit comes from that a verdict prefers."""
    return msgspec.structs.replace(
        _provenance(edit),
        event_ids=tuple(sorted((edit.event_id, verdict.verdict_id))),
        at_us=max(edit.occurred_at_us, verdict.occurred_at_us),
        prompt_hash=verdict.prompt_hash,
        confidence=verdict.confidence,
    )


def _pair(turn: Outline, text: Text, edit: Rating, provenance: Provenance) -> PreferencePair:
    return PreferencePair(
        id=label_id("edit", edit.tenant, edit.event_id),
        **place_of(turn, text),
        chosen=edited(edit),
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
        reply=edited(edit),
        weight=weight,
        provenance=provenance,
    )
