from typing import Any

import pytest

from feedback.content import is_learnable, trainable_text, untrainable
from feedback.dataset import census
from feedback.labels.exchanges import join, said
from feedback.labels.outline import outline
from feedback.labels.pairing import Labels, answers, labels
from feedback.labels.uses import Uses
from feedback.records import Judgement, Pick, Rating, Turn, TurnKey
from tests.feedback.builders import (
    AS_OF_US,
    GATE,
    MINUTE_US,
    START_US,
    MemoryFacts,
    rating,
    says,
    turn,
    verdict,
)

Event = Turn | Rating | Judgement

ONE = turn("t1", messages=says("where is it?"), reply="here")
TWO = turn("t2", messages=says("where is it?"), reply="there", occurred_at_us=START_US + 2 * MINUTE_US)


def learn(
    *events: Event, kept: set[str] | None = None, max_user_edits: int = 20, max_anonymous_edits: int = 20
) -> Labels:
    facts = MemoryFacts(events)
    turns = [turn for turn, _ in facts.turns()]
    heard = said(facts.ratings(), facts.verdicts(), census.take(facts.turns()).known, AS_OF_US)
    exchanges = join(map(outline, turns), heard)
    texts = {turn.key: trainable_text(turn) for turn in turns if is_learnable(untrainable(turn))}
    inside: set[TurnKey] = {key for key in exchanges if kept is None or key[2] in kept}
    return labels(exchanges, answers(exchanges), inside, texts, max_user_edits, max_anonymous_edits, Uses())


def by_expert(event_id: str, turn_id: str, kind: str, value: Any) -> Rating:
    return rating(event_id, turn_id, kind, value, source="expert", user_id="hashed expert")


def test_a_pick_is_a_pair_with_the_rated_reply_chosen() -> None:
    learned = learn(ONE, TWO, rating("a", "t2", "pick", Pick("t1")))
    (pair,) = learned.pairs
    assert (pair.chosen, pair.rejected, pair.how, pair.preference) == ("there", "here", "pick", 1.0)
    assert (pair.prompt, pair.turn_id, pair.split) == (says("where is it?"), "t2", "train")
    assert (pair.provenance.source, pair.provenance.event_ids) == ("user", ("a",))
    assert not learned.unpaired
    assert not learned.demonstrations
    assert learned.ratings == {"used": 1}


def test_a_tie_is_no_pair() -> None:
    learned = learn(ONE, TWO, rating("a", "t2", "pick", Pick("t1", tie=True)))
    assert learned.pairs == ()
    assert learned.ratings == {"neutral": 1}


@pytest.mark.parametrize(
    "other",
    [
        turn("t2", messages=says("something else")),
        turn("t2", messages=ONE.messages, bucket=GATE),
        turn("t3", messages=ONE.messages),
    ],
    ids=["another context", "another split", "an unknown turn"],
)
def test_replies_to_different_contexts_are_mismatched(other: Turn) -> None:
    learned = learn(ONE, other, rating("a", "t1", "pick", Pick("t2")))
    assert learned.pairs == ()
    assert learned.ratings == {"mismatched": 1}


@pytest.mark.parametrize("ended", ["length", "content_filter", "MAX_TOKENS"])
def test_a_reply_that_was_cut_is_never_wanted_and_may_be_unwanted(ended: str) -> None:
    cut = turn("t1", messages=TWO.messages, reply="It is wh", finish_reason=ended)
    liked = learn(cut, rating("a", "t1", "thumbs", True))
    assert (liked.unpaired, liked.ratings) == ((), {"cut": 1})
    (label,) = learn(cut, rating("a", "t1", "thumbs", False)).unpaired
    assert (label.reply, label.desirable, label.ended) == ("It is wh", 0.0, False)
    (label,) = learn(cut, rating("a", "t1", "stars", 2)).unpaired
    assert (label.desirable, label.ended) == (0.0, False)
    picked = learn(cut, TWO, rating("a", "t1", "pick", Pick("t2")))
    assert (picked.pairs, picked.ratings) == ((), {"cut": 1})
    (pair,) = learn(cut, TWO, rating("a", "t2", "pick", Pick("t1"))).pairs
    assert (pair.chosen, pair.rejected, pair.rejected_ended) == ("there", "It is wh", False)


def test_a_reply_that_ended_is_learned_with_its_end() -> None:
    learned = learn(ONE, TWO, rating("a", "t2", "pick", Pick("t1")), rating("b", "t1", "thumbs", False))
    assert [pair.rejected_ended for pair in learned.pairs] + [label.ended for label in learned.unpaired] == [True, True]


def at(clock: str, question: str = "What is the capital of Peru?") -> list[Any]:
    return [{"role": "system", "content": f"You are Bo. Current time: {clock}."}, *says(question)]


def test_a_pick_and_a_regenerate_compare_the_same_question_although_the_clock_moved_on() -> None:
    one = turn("t1", messages=at("2025-11-24 10:15:00"), reply="Quito.")
    two = turn("t2", messages=at("2025-11-24 10:15:20"), reply="Lima.", replaces="t1")
    (picked,) = learn(one, two, rating("a", "t2", "pick", Pick("t1"))).pairs
    assert (picked.prompt, picked.chosen, picked.rejected, picked.how) == (two.messages, "Lima.", "Quito.", "pick")
    (regenerated,) = learn(one, two, rating("a", "t2", "thumbs", True)).pairs
    assert (regenerated.chosen, regenerated.rejected, regenerated.how) == ("Lima.", "Quito.", "regenerate")


@pytest.mark.parametrize(
    "messages",
    [at("10:15:20", "What is the capital of Chile?"), at("10:15:20. Be brief"), at("10:15:00", "At 10:15:20?")],
    ids=["another question", "another system prompt", "another time in the question"],
)
def test_other_questions_are_never_paired_whatever_the_clock(messages: list[Any]) -> None:
    one = turn("t1", messages=at("10:15:00"), reply="Quito.")
    two = turn("t2", messages=messages, reply="Lima.", replaces="t1")
    learned = learn(one, two, rating("a", "t2", "pick", Pick("t1")), rating("b", "t2", "thumbs", True))
    assert learned.pairs == ()


def test_a_pick_among_replies_that_look_alike_is_no_pair() -> None:
    one, two = (
        turn(f"t{n}", messages=TWO.messages, reply=f"We open{space}at nine.") for n, space in ((1, " "), (2, "\u00a0"))
    )
    learned = learn(one, two, rating("a", "t2", "pick", Pick("t1")))
    assert learned.pairs == ()
    assert learned.ratings == {"neutral": 1}


def test_a_pick_over_itself_is_mismatched() -> None:
    assert learn(ONE, rating("a", "t1", "pick", Pick("t1"))).ratings == {"mismatched": 1}


@pytest.mark.parametrize(("preference", "chosen", "certainty"), [(0.7, "here", 0.7), (0.25, "there", 0.75)])
def test_the_judges_comparison_is_a_soft_pair(preference: float, chosen: str, certainty: float) -> None:
    (pair,) = learn(ONE, TWO, verdict("v", "t1", other_turn_id="t2", preference=preference)).pairs
    assert (pair.chosen, pair.preference, pair.how) == (chosen, certainty, "verdict")
    provenance = pair.provenance
    assert (provenance.source, provenance.rater, provenance.rubric) == ("judge", "judge-1", "r1")
    assert (provenance.prompt_hash, provenance.confidence) == ("p1", 0.8)


def test_an_undecided_judge_gives_no_label() -> None:
    learned = learn(ONE, TWO, verdict("v", "t1", other_turn_id="t2", preference=0.5), verdict("w", "t1", score=0.5))
    assert not learned.pairs
    assert not learned.unpaired
    assert learned.verdicts == {"neutral": 2}


@pytest.mark.parametrize(("kind", "value"), [("comment", "hm"), ("signal", "abandon"), ("signal", "escalate")])
def test_comments_and_other_signals_train_nothing(kind: str, value: Any) -> None:
    learned = learn(ONE, rating("a", "t1", kind, value))
    assert learned.unpaired == ()
    assert learned.ratings == {"inert": 1}


IMAGE = {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}
CALL = {"role": "assistant", "content": "", "tool_calls": [{"id": "1"}]}


@pytest.mark.parametrize(
    "changes",
    [
        {"outcome": "error"},
        {"outcome": "aborted"},
        {"outcome": "filtered"},
        {"train": False},
        {"truncated": 2},
        {"reply": "  "},
        {"reply": CALL},
        {"reply": {"role": "assistant", "content": None}},
        {"reply": {"role": "assistant", "content": None, "refusal": "no"}},
        {"messages": [IMAGE]},
        {"messages": [*says("a"), CALL, {"role": "tool", "content": "42"}]},
        {"reply": "\u200b"},
        {"reply": "", "finish_reason": "length"},
        {"reply": "<think>unfinished"},
        {"messages": []},
        {"messages": [{"role": "system", "content": "be kind"}]},
    ],
)
def test_what_may_not_or_cannot_be_learned_from_gives_no_label(changes: dict[str, Any]) -> None:
    bad = turn("t1", **({"messages": TWO.messages} | changes))
    events = [
        rating("a", "t1", "thumbs", True),
        rating("b", "t1", "pick", Pick("t2")),
        by_expert("c", "t1", "edit", "better"),
    ]
    learned = learn(bad, TWO, *events)
    assert not learned.pairs
    assert not learned.unpaired
    assert not learned.demonstrations
    assert learned.ratings == {"untrainable": 3}


def test_outside_the_window_nothing_is_labelled_but_second_replies_are_found() -> None:
    events = (ONE, TWO, rating("a", "t1", "thumbs", True), rating("b", "t1", "pick", Pick("t2")))
    assert learn(*events, kept=set()).ratings == {"outside_window": 2}
    learned = learn(*events, kept={"t2"})
    assert len(learned.pairs) == 1
    assert learned.ratings == {"outside_window": 1, "used": 1}


def test_identical_replies_make_no_pair() -> None:
    twin = turn("t2", messages=ONE.messages, reply=ONE.reply)
    assert learn(ONE, twin, rating("a", "t1", "pick", Pick("t2"))).ratings == {"neutral": 1}
