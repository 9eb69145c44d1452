from typing import Any

import pytest

from feedback.content import trainable_text, untrainable
from feedback.dataset import census
from feedback.labels.exchanges import join, said
from feedback.labels.outline import outline
from feedback.labels.pairing import Labels, answers, labels
from feedback.labels.uses import Uses
from feedback.labels.votes import MOST_RATERS, SIGNAL_WEIGHT, SOURCE_WEIGHT, USER_EDIT_WEIGHT
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
    unjudged,
    verdict,
)

Event = Turn | Rating | Judgement

ONE = turn("t1", messages=says("where is it?"), reply="here")
TWO = turn("t2", messages=says("where is it?"), reply="there", occurred_at_us=START_US + 2 * MINUTE_US)


def learn(*events: Event, kept: set[str] | None = None, max_user_edits: int = 20) -> Labels:
    facts = MemoryFacts(events)
    turns = [turn for turn, _ in facts.turns()]
    heard = said(facts.ratings(), facts.verdicts(), census.take(facts.turns()).known, AS_OF_US)
    exchanges = join(map(outline, turns), heard)
    texts = {(turn.tenant, turn.turn_id): trainable_text(turn) for turn in turns if untrainable(turn) is None}
    inside: set[TurnKey] = {key for key in exchanges if kept is None or key[1] in kept}
    return labels(exchanges, answers(exchanges), inside, texts, max_user_edits, Uses())


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


def test_a_pick_over_itself_is_mismatched() -> None:
    assert learn(ONE, rating("a", "t1", "pick", Pick("t1"))).ratings == {"mismatched": 1}


def test_several_users_picks_are_one_pair_with_their_mean() -> None:
    given = [rating(str(i), "t1", "pick", Pick("t2"), user_id=f"u{i}") for i in range(3)]
    (pair,) = learn(ONE, TWO, *given, rating("x", "t2", "pick", Pick("t1"), user_id="u9")).pairs
    assert (pair.chosen, pair.preference, pair.weight) == ("here", 0.75, 4 * SOURCE_WEIGHT["user"])
    assert pair.provenance.rater is None


def test_an_experts_pick_supersedes_users_and_the_judge_whenever_it_came() -> None:
    events: list[Event] = [
        by_expert("e", "t1", "pick", Pick("t2")),
        rating("u", "t2", "pick", Pick("t1"), occurred_at_us=START_US + 99 * MINUTE_US),
        verdict("v", "t2", other_turn_id="t1", preference=0.9),
    ]
    learned = learn(ONE, TWO, *events)
    (pair,) = learned.pairs
    assert (pair.chosen, pair.provenance.source) == ("here", "expert")
    assert pair.provenance.superseded == ("u", "v")
    assert learned.ratings == {"used": 1, "superseded": 1}
    assert learned.verdicts == {"superseded": 1}


def test_a_late_human_pick_changes_the_judges_pair_and_keeps_its_id() -> None:
    judged = learn(ONE, TWO, verdict("v", "t1", other_turn_id="t2", preference=0.8))
    picked = learn(
        ONE, TWO, verdict("v", "t1", other_turn_id="t2", preference=0.8), rating("u", "t2", "pick", Pick("t1"))
    )
    assert judged.pairs[0].id == picked.pairs[0].id
    assert (judged.pairs[0].how, judged.pairs[0].chosen) == ("verdict", "here")
    assert (picked.pairs[0].how, picked.pairs[0].chosen) == ("pick", "there")


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


def test_a_verdict_without_an_answer_is_counted() -> None:
    assert learn(ONE, verdict("v", "t1"), unjudged("u", "t1", "budget")).verdicts == {"neutral": 1}


@pytest.mark.parametrize(
    ("kind", "value", "desirable"),
    [
        ("thumbs", True, 1.0),
        ("thumbs", False, 0.0),
        ("stars", 1, 0.0),
        ("stars", 2, 0.25),
        ("stars", 4, 0.75),
        ("stars", 5, 1.0),
    ],
)
def test_thumbs_and_stars_are_unpaired_labels(kind: str, value: Any, desirable: float) -> None:
    (label,) = learn(ONE, rating("a", "t1", kind, value)).unpaired
    assert (label.kind, label.desirable, label.reply, label.weight) == (kind, desirable, "here", SOURCE_WEIGHT["user"])


def test_three_stars_say_nothing() -> None:
    learned = learn(ONE, rating("a", "t1", "stars", 3))
    assert learned.unpaired == ()
    assert learned.ratings == {"neutral": 1}


def test_users_who_disagree_are_one_soft_label_each_counting_once() -> None:
    given = [
        rating("a", "t1", "thumbs", True, user_id="u1"),
        rating("b", "t1", "stars", 4, user_id="u1"),
        rating("c", "t1", "thumbs", False, user_id="u2"),
    ]
    (label,) = learn(ONE, *given).unpaired
    assert label.desirable == pytest.approx((0.875 + 0.0) / 2)
    assert label.weight == 2 * SOURCE_WEIGHT["user"]
    assert label.provenance.event_ids == ("a", "b", "c")


def test_a_crowd_does_not_outweigh_everything() -> None:
    crowd = [rating(f"{i:03}", "t1", "thumbs", True, user_id=f"u{i}") for i in range(100)]
    assert learn(ONE, *crowd).unpaired[0].weight == MOST_RATERS * SOURCE_WEIGHT["user"]


def test_a_late_human_rating_replaces_the_verdict() -> None:
    score = verdict("v", "t1", score=0.9)
    assert learn(ONE, score).unpaired[0].provenance.source == "judge"
    learned = learn(ONE, score, rating("a", "t1", "thumbs", False))
    (label,) = learned.unpaired
    assert (label.desirable, label.provenance.source, label.provenance.superseded) == (0.0, "user", ("v",))
    assert learned.verdicts == {"superseded": 1}


def test_an_expert_supersedes_a_user_also_afterwards() -> None:
    learned = learn(
        ONE, by_expert("e", "t1", "thumbs", True), rating("u", "t1", "thumbs", False, occurred_at_us=AS_OF_US)
    )
    assert (learned.unpaired[0].desirable, learned.unpaired[0].provenance.superseded) == (1.0, ("u",))


@pytest.mark.parametrize(
    ("kind", "value"), [("thumbs", False), ("stars", 1), ("pick", Pick("t2")), ("edit", "no"), ("signal", "copy")]
)
def test_what_systems_send_trains_nothing_and_supersedes_nothing(kind: str, value: Any) -> None:
    learned = learn(ONE, TWO, rating("s", "t1", kind, value, source="system"), verdict("v", "t1", score=0.9))
    assert learned.ratings == {"inert": 1}
    assert not learned.pairs
    assert not learned.demonstrations
    assert learned.unpaired[0].provenance.source == "judge"


@pytest.mark.parametrize(("kind", "value"), [("comment", "hm"), ("signal", "abandon"), ("signal", "escalate")])
def test_comments_and_other_signals_train_nothing(kind: str, value: Any) -> None:
    learned = learn(ONE, rating("a", "t1", kind, value))
    assert learned.unpaired == ()
    assert learned.ratings == {"inert": 1}


def test_a_regenerate_is_a_weak_label_against_the_first_reply_and_no_pair() -> None:
    learned = learn(ONE, turn("t2", messages=ONE.messages, replaces="t1"))
    (label,) = learned.unpaired
    assert (label.turn_id, label.kind, label.desirable, label.weight) == ("t1", "signal", 0.0, SIGNAL_WEIGHT)
    assert label.provenance.source == "system"
    assert learned.pairs == ()


@pytest.mark.parametrize("source", ["user", "system"])
def test_a_regenerate_signal_is_the_same_as_a_reply_that_replaces(source: str) -> None:
    signal = rating("s", "t1", "signal", "regenerate", source=source)
    learned = learn(ONE, TWO, signal, rating("a", "t2", "thumbs", True))
    assert {(label.turn_id, label.kind) for label in learned.unpaired} == {("t1", "signal"), ("t2", "thumbs")}
    assert [(pair.chosen, pair.rejected) for pair in learned.pairs] == [("there", "here")]
    assert learned.ratings == {"used": 2}


def test_a_regenerate_is_a_pair_once_its_second_reply_earned_a_positive_label() -> None:
    second = turn("t2", messages=ONE.messages, reply="there", replaces="t1")
    (pair,) = learn(ONE, second, rating("a", "t2", "stars", 4)).pairs
    assert (pair.chosen, pair.rejected, pair.how, pair.preference) == ("there", "here", "regenerate", 0.75)
    assert pair.provenance.event_ids == ("a", "served-t2")
    assert learn(ONE, second, rating("a", "t2", "stars", 2)).pairs == ()
    assert learn(ONE, second, rating("a", "t2", "stars", 4), rating("b", "t1", "thumbs", True)).pairs == ()


def test_a_regenerate_of_another_conversations_turn_says_nothing() -> None:
    learned = learn(ONE, turn("t2", messages=ONE.messages, replaces="t1", conversation_id="c2"))
    assert learned.unpaired == ()


def test_an_explicit_label_comes_before_a_regenerate() -> None:
    learned = learn(ONE, turn("t2", messages=ONE.messages, replaces="t1"), verdict("v", "t1", score=0.9))
    (label,) = learned.unpaired
    assert (label.kind, label.desirable, label.provenance.superseded) == ("verdict", 0.9, ("served-t2",))


def test_a_signal_supersedes_nothing_even_if_a_user_sent_it() -> None:
    learned = learn(ONE, rating("s", "t1", "signal", "regenerate"), verdict("v", "t1", score=0.9))
    assert (learned.unpaired[0].kind, learned.unpaired[0].provenance.superseded) == ("verdict", ("s",))
    assert (learned.ratings, learned.verdicts) == ({"superseded": 1}, {"used": 1})


def test_the_second_reply_of_a_regenerate_signal_is_the_next_to_the_same_context() -> None:
    between = turn("t3", messages=says("and what else?"), occurred_at_us=ONE.occurred_at_us + 1)
    signal = rating("s", "t1", "signal", "regenerate")
    good = [rating("a", "t2", "thumbs", True), rating("b", "t3", "thumbs", True)]
    assert [pair.chosen for pair in learn(ONE, TWO, between, signal, *good).pairs] == ["there"]


def test_an_experts_edit_is_a_pair_and_a_demonstration() -> None:
    learned = learn(ONE, by_expert("e", "t1", "edit", "over there"), rating("u", "t1", "edit", "mine"))
    (pair,), (demonstration,) = learned.pairs, learned.demonstrations
    assert (pair.chosen, pair.rejected, pair.how) == ("over there", "here", "edit")
    assert (demonstration.reply, demonstration.weight) == ("over there", SOURCE_WEIGHT["expert"])
    assert pair.provenance.superseded == demonstration.provenance.superseded == ("u",)
    assert learned.ratings == {"used": 1, "superseded": 1}


def test_a_users_edit_alone_trains_nothing() -> None:
    learned = learn(ONE, rating("u", "t1", "edit", "mine"), rating("t", "t1", "thumbs", False))
    assert not learned.pairs
    assert not learned.demonstrations
    assert learned.ratings == {"unconfirmed": 1, "used": 1}


@pytest.mark.parametrize(
    ("agreeing", "confirmed"),
    [
        (verdict("v", "t1", score=0.2), True),
        (verdict("v", "t1", score=0.8), False),
        (by_expert("v", "t1", "thumbs", False), True),
        (by_expert("v", "t1", "thumbs", True), False),
    ],
)
def test_a_users_edit_is_a_demonstration_if_an_expert_or_the_judge_found_the_reply_bad(
    agreeing: Event, confirmed: bool
) -> None:
    # The user's own thumb supersedes the verdict as a label, and says nothing about the edit.
    learned = learn(ONE, rating("u", "t1", "edit", "mine"), rating("t", "t1", "thumbs", False), agreeing)
    assert [(d.reply, d.weight) for d in learned.demonstrations] == ([("mine", USER_EDIT_WEIGHT)] if confirmed else [])
    assert learned.pairs == ()
    if confirmed:
        assert learned.demonstrations[0].provenance.event_ids == ("u", "v")


def test_an_expert_who_found_the_reply_good_outweighs_the_judge_on_an_edit() -> None:
    events = (rating("u", "t1", "edit", "mine"), by_expert("e", "t1", "thumbs", True), verdict("v", "t1", score=0.1))
    assert learn(ONE, *events).demonstrations == ()


def test_edits_are_capped_per_user() -> None:
    turns = [turn(f"t{i}", messages=says(f"question {i}")) for i in range(6)]
    edits = [rating(f"e{i}", f"t{i}", "edit", "mine", user_id="a" if i < 4 else "b") for i in range(6)]
    bad = [verdict(f"v{i}", f"t{i}", score=0.0) for i in range(6)]
    learned = learn(*turns, *edits, *bad, max_user_edits=3)
    assert sorted(d.provenance.rater or "" for d in learned.demonstrations) == ["a", "a", "a", "b", "b"]
    assert learned.ratings == {"used": 5, "over_edit_cap": 1}


@pytest.mark.parametrize("text", ["here", " here\n", "", "  "])
def test_an_edit_that_changes_nothing_or_deletes_everything_is_neutral(text: str) -> None:
    learned = learn(ONE, by_expert("e", "t1", "edit", text))
    assert not learned.pairs
    assert not learned.demonstrations
    assert learned.ratings == {"neutral": 1}


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


def test_text_in_parts_is_text() -> None:
    parts = [{"type": "text", "text": "he"}, {"type": "text", "text": "re"}]
    spoken = turn("t1", messages=[{"role": "user", "content": parts}], reply={"role": "assistant", "content": parts})
    (label,) = learn(spoken, rating("a", "t1", "thumbs", True)).unpaired
    assert (label.prompt, label.reply) == ([{"role": "user", "content": "here"}], "here")


def test_outside_the_window_nothing_is_labelled_but_second_replies_are_found() -> None:
    events = (ONE, TWO, rating("a", "t1", "thumbs", True), rating("b", "t1", "pick", Pick("t2")))
    assert learn(*events, kept=set()).ratings == {"outside_window": 2}
    learned = learn(*events, kept={"t2"})
    assert len(learned.pairs) == 1
    assert learned.ratings == {"outside_window": 1, "used": 1}


def test_identical_replies_make_no_pair() -> None:
    twin = turn("t2", messages=ONE.messages, reply=ONE.reply)
    assert learn(ONE, twin, rating("a", "t1", "pick", Pick("t2"))).ratings == {"neutral": 1}
