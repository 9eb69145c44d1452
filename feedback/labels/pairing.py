"""From exchanges to labels: preference pairs, unpaired labels and demonstrations.

- A pick, or the judge's comparison, of two replies to one context is a pair; a tie is nothing.
- Thumbs, stars (3 is nothing) and the judge's score are an unpaired label; so, against the reply, is a regenerate, which
  makes a pair only if its second reply earned a positive label and the first did not.
- An expert's edit is a demonstration and a pair, a user's a demonstration if someone trusted agrees, one of people without a
  name if the judge prefers it (see edits.py).

Experts come before users before the judge on one question (see votes.py). Everything is a function of the set of
exchanges; ids name the question that a label answers, so that a late rating changes a row and does not add one.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Set

from msgspec import Struct

from feedback.content import Text, is_learnable
from feedback.labels.edits import edits
from feedback.labels.exchanges import Exchange, Said
from feedback.labels.outline import Outline
from feedback.labels.replacements import named_replacements, signalled_replacements
from feedback.labels.uses import Use, Uses, label_id, place_of, unusable
from feedback.labels.votes import Decision, Vote, comparison_votes, decide, event_ids, quality_votes, speaks
from feedback.records import Demonstration, PreferencePair, Rating, TurnKey, UnpairedLabel, Verdict

Question = tuple[str, str, str, str]
"""(tenant, conversation id, turn id, turn id): which of two replies is better; the turn ids in order."""


class Labels(Struct, frozen=True):
    """What a window teaches, each sorted by id, and the uses that its ratings and verdicts were put to."""

    pairs: tuple[PreferencePair, ...]
    unpaired: tuple[UnpairedLabel, ...]
    demonstrations: tuple[Demonstration, ...]
    ratings: dict[Use, int]
    verdicts: dict[Use, int]


class Answers(Struct, frozen=True):
    """What is decided of each reply by itself, and all votes on each comparison."""

    qualities: dict[TurnKey, Decision]
    comparisons: dict[Question, list[Vote]]

    def compared_with(self, kept: Set[TurnKey]) -> set[TurnKey]:
        """The turns whose replies are compared with those of turns in `kept`."""
        sides = [set(_sides(question)) for question in self.comparisons]
        return {key for both in sides if both & kept for key in both - kept}


def answers(exchanges: Mapping[TurnKey, Exchange]) -> Answers:
    """What was said of each reply and each two replies, in the window or not."""
    qualities = _qualities(exchanges)
    return Answers(qualities, _comparisons(exchanges, qualities))


def labels(
    exchanges: Mapping[TurnKey, Exchange],
    answered: Answers,
    kept: Set[TurnKey],
    texts: Mapping[TurnKey, Text],
    max_user_edits: int,
    max_anonymous_edits: int,
    uses: Uses,
) -> Labels:
    """The labels of the exchanges in `kept`; the others only supply second replies and better sources.

    `texts` holds the texts of the turns in `kept` and of those that are compared with them, `uses` what was said elsewhere.
    """
    unpaired = _unpaired(exchanges, kept, texts, answered.qualities, uses)
    compared = _compared(exchanges, kept, texts, answered.comparisons, uses)
    caps = max_user_edits, max_anonymous_edits
    edited, demonstrations = edits(exchanges, kept, texts, answered.qualities, *caps, uses)
    for key, exchange in exchanges.items():
        _count_idle(key, exchange.ratings, exchange.verdicts, uses)
    return Labels(
        pairs=tuple(sorted(compared + edited, key=_by_id)),
        unpaired=tuple(sorted(unpaired, key=_by_id)),
        demonstrations=tuple(sorted(demonstrations, key=_by_id)),
        ratings=dict(+uses.ratings),
        verdicts=dict(+uses.verdicts),
    )


def unused(said: Said, turns: Iterable[tuple[TurnKey, Use]]) -> Uses:
    """The uses of what was said of turns that give no labels, nor help others to one, each with the reason why."""
    uses = Uses()
    for key, use in turns:
        ratings, verdicts = said.ratings.get(key, ()), said.verdicts.get(key, ())
        decision = decide(quality_votes(ratings, verdicts))
        if decision is not None:
            uses.count(decision, use)
        uses.ratings[use] += sum(rating.kind == "edit" and rating.source != "system" for rating in ratings)
        uses.verdicts[use] += len(said.edit_verdicts.get(key, ()))
        _count_idle(key, ratings, verdicts, uses)
    return uses


def _count_idle(key: TurnKey, ratings: Iterable[Rating], verdicts: Iterable[Verdict], uses: Uses) -> None:
    uses.ratings["inert"] += sum(_is_inert(rating) for rating in ratings)
    uses.verdicts["neutral"] += sum(verdict.turn_id == key[2] and not speaks(verdict) for verdict in verdicts)


def _is_inert(rating: Rating) -> bool:
    """Comments, scores and most signals train nothing; of what systems send, only `regenerate` does."""
    if rating.kind == "signal":
        return bool(rating.value != "regenerate")
    return rating.source == "system" or rating.kind in ("comment", "score")


def _qualities(exchanges: Mapping[TurnKey, Exchange]) -> dict[TurnKey, Decision]:
    """What is decided of each reply by itself."""
    votes = {key: quality_votes(exchange.ratings, exchange.verdicts) for key, exchange in exchanges.items()}
    for first, second in named_replacements(exchanges):
        votes[first].append(_regenerated(exchanges[second].turn, 0.0))
    return {key: decided for key, cast in votes.items() if (decided := decide(cast)) is not None}


def _unpaired(
    exchanges: Mapping[TurnKey, Exchange],
    kept: Set[TurnKey],
    texts: Mapping[TurnKey, Text],
    qualities: Mapping[TurnKey, Decision],
    uses: Uses,
) -> list[UnpairedLabel]:
    unpaired = []
    for key, decision in qualities.items():
        turn = exchanges[key].turn
        use = unusable(turn, key in kept) or ("neutral" if decision.value == 0.5 else "used")
        if use == "used" and turn.cut and decision.value > 0.5:
            use = "cut"
        uses.count(decision, use)
        if use == "used":
            unpaired.append(_unpaired_label(turn, texts[key], decision))
    return unpaired


def _unpaired_label(turn: Outline, text: Text, decision: Decision) -> UnpairedLabel:
    kinds = {vote.kind for vote in decision.counted}
    return UnpairedLabel(
        id=label_id("quality", turn.tenant, turn.conversation_id, turn.turn_id),
        **place_of(turn, text),
        reply=text.reply,
        kind="thumbs"
        if "thumbs" in kinds
        else "stars"
        if "stars" in kinds
        else "verdict"
        if "verdict" in kinds
        else "signal",
        desirable=0.0 if turn.cut else decision.value,  # what is a little wanted is not wanted at all
        ended=not turn.cut,
        weight=decision.weight,
        provenance=decision.provenance(),
    )


def _compared(
    exchanges: Mapping[TurnKey, Exchange],
    kept: Set[TurnKey],
    texts: Mapping[TurnKey, Text],
    comparisons: Mapping[Question, list[Vote]],
    uses: Uses,
) -> list[PreferencePair]:
    pairs = []
    for question, votes in comparisons.items():
        decision = decide(votes)
        assert decision is not None, "a question is only there because of a vote"
        use = _incomparable(question, exchanges, kept) or ("neutral" if decision.value == 0.5 else "used")
        if use == "used" and exchanges[_ranked(question, decision)[0]].turn.cut:
            use = "cut"
        uses.count(decision, use)
        if use == "used":
            pairs.append(_pair(question, exchanges, texts, decision))
    return pairs


def _comparisons(
    exchanges: Mapping[TurnKey, Exchange], qualities: Mapping[TurnKey, Decision]
) -> dict[Question, list[Vote]]:
    votes: defaultdict[Question, list[Vote]] = defaultdict(list)
    for (tenant, conversation_id, _), exchange in exchanges.items():
        for (a, b), vote in comparison_votes(exchange):
            votes[tenant, conversation_id, a, b].append(vote)
    for first, second in {*named_replacements(exchanges), *signalled_replacements(exchanges)}:
        earned = qualities.get(second)
        if earned is not None and earned.value > 0.5 and qualities[first].value < 0.5:
            a, b = sorted((first[2], second[2]))
            value = earned.value if a == second[2] else 1 - earned.value
            votes[first[0], first[1], a, b].append(_regenerated(exchanges[second].turn, value, earned.counted))
    return votes


def _regenerated(second: Outline, value: float, earned: tuple[Vote, ...] = ()) -> Vote:
    """The vote of a regenerate: behaviour, so it decides only where nobody spoke."""
    ids = tuple(sorted({second.event_id, *event_ids(earned)}))
    at_us = max([second.occurred_at_us, *(vote.at_us for vote in earned)])
    return Vote(origin="turn", kind="signal", event_ids=ids, at_us=at_us, source="system", value=value)


def _incomparable(question: Question, exchanges: Mapping[TurnKey, Exchange], kept: Set[TurnKey]) -> Use | None:
    """Why the two replies can't make a pair; None where they can. A pair never spans two splits."""
    a, b = _sides(question)
    if a == b or a not in exchanges or b not in exchanges:
        return "mismatched"
    one, other = exchanges[a].turn, exchanges[b].turn
    if not (is_learnable(one.untrainable) and is_learnable(other.untrainable)):
        return "untrainable"
    if (one.context, one.split) != (other.context, other.split):
        return "mismatched"
    if a not in kept and b not in kept:
        return "outside_window"
    return "neutral" if one.reply == other.reply else None


def _sides(question: Question) -> tuple[TurnKey, TurnKey]:
    tenant, conversation_id, a, b = question
    return (tenant, conversation_id, a), (tenant, conversation_id, b)


def _pair(
    question: Question, exchanges: Mapping[TurnKey, Exchange], texts: Mapping[TurnKey, Text], decision: Decision
) -> PreferencePair:
    best, worst = _ranked(question, decision)
    turn = exchanges[best].turn
    kind = decision.counted[0].kind
    return PreferencePair(
        id=label_id("comparison", *question),
        **place_of(turn, texts[best]),
        chosen=texts[best].reply,
        rejected=texts[worst].reply,
        rejected_ended=not exchanges[worst].turn.cut,
        how="verdict" if kind == "verdict" else "regenerate" if kind == "signal" else "pick",
        preference=max(decision.value, 1 - decision.value),
        weight=decision.weight,
        provenance=decision.provenance(),
    )


def _ranked(question: Question, decision: Decision) -> tuple[TurnKey, TurnKey]:
    """The turn whose reply is the better one, and the other."""
    a, b = _sides(question)
    return (a, b) if decision.value > 0.5 else (b, a)


def _by_id(label: PreferencePair | UnpairedLabel | Demonstration) -> str:
    return label.id
