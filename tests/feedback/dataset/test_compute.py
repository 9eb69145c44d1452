from typing import Any
from unittest.mock import patch

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feedback import splits
from feedback.dataset import window
from feedback.dataset.compute import RULES_VERSION, Counts, compute
from feedback.dataset.tables import TABLES, TableName, hash_of, record_of
from feedback.digests import edit_digest
from feedback.intake import contract
from feedback.intake.edge import Edge
from feedback.records import Judgement, Pick, Rating, Score, Turn, Unjudged, Verdict
from feedback.settings import WindowSettings
from tests.feedback.builders import (
    AS_OF_US,
    GATE,
    MINUTE_US,
    START_US,
    TRAIN,
    MemoryFacts,
    rating,
    says,
    turn,
    unjudged,
    verdict,
)

Event = Turn | Rating | Judgement


EVENTS: list[Event] = [
    turn("t1", messages=says("where is it?"), reply="here", locale="en"),
    turn("t2", messages=says("where is it?"), reply="there"),
    turn("t3", messages=says("and now, what else?"), reply="gone", bucket=GATE),
    turn("t4", messages=says("hm"), reply="", outcome="error"),
    rating("a", "t1", "thumbs", True),
    rating("b", "t1", "pick", Pick("t2")),
    rating("c", "t2", "edit", "over there", source="expert"),
    rating("d", None, "stars", 4),
    rating("e", "nowhere", "thumbs", False),
    verdict("v", "t3", score=0.25),
]


def dataset_hash(*events: Event, rules_version: str = RULES_VERSION, **settings: Any) -> str:
    content, _ = compute(MemoryFacts(events), AS_OF_US, WindowSettings(**settings))
    return hash_of(content, AS_OF_US, rules_version)


def made(*events: Event, as_of_us: int = AS_OF_US, **settings: Any) -> tuple[dict[TableName, list[Any]], Counts]:
    """The records of the tables, and the account."""
    content, counts = compute(MemoryFacts(events), as_of_us, WindowSettings(**settings))
    return {table: [record_of(table, row) for row in rows] for table, rows in content.items()}, counts


def test_the_turns_of_tenants_that_share_ids_are_apart() -> None:
    thumbs = rating("a", "t1", "thumbs", True), rating("a", "t1", "thumbs", False, tenant="other")
    content, _ = made(turn("t1"), turn("t1", tenant="other"), *thumbs)
    assert {(label.tenant, label.desirable) for label in content["unpaired"]} == {("default", 1.0), ("other", 0.0)}
    assert len({label.id for label in content["unpaired"]}) == 2


def test_verdicts_beyond_the_judges_share_are_left_out_and_counted() -> None:
    asked: list[Event] = [turn(f"t{i}", messages=says(f"question {i}")) for i in range(10)]
    verdicts: list[Event] = [verdict(f"v{i}", f"t{i}", score=0.9) for i in range(1, 10)]
    content, counts = made(*asked, *verdicts, rating("a", "t0", "thumbs", True))
    assert counts.unpaired == {"thumbs": 1, "verdict": 2}
    assert counts.verdict_uses == {"used": 2, "over_judge_share": 7}
    assert len(content["unpaired"]) == 3


def test_of_replies_that_were_cut_only_those_that_people_dislike_are_learned_from_and_all_are_counted() -> None:
    cut = [turn(f"t{n}", messages=says(f"question {n}"), finish_reason="length") for n in range(3)]
    filtered = turn("t3", messages=says("question 3"), finish_reason="content_filter")
    content, counts = made(*cut, filtered, rating("a", "t0", "thumbs", True), rating("b", "t1", "thumbs", False))
    assert [(label.turn_id, label.desirable, label.ended) for label in content["unpaired"]] == [("t1", 0.0, False)]
    assert content["turns"] == []
    assert counts.untrainable == {"finish_length": 3, "finish_content_filter": 1}
    assert counts.rating_uses == {"used": 1, "cut": 1}


def test_unrated_turns_without_a_verdict_are_counted_by_the_latest_reason() -> None:
    lacks = unjudged("u1", "t1", "budget"), unjudged("u2", "t2", "budget"), unjudged("u3", "t3", "timeout")
    counts = made(turn("t1"), turn("t2"), turn("t3"), turn("t4"), *lacks, rating("a", "t2", "thumbs", True))[1]
    assert counts.unjudged == {"budget": 1, "timeout": 1, "no_judge": 1}


def test_the_other_reply_of_a_pair_lends_its_text_from_outside_the_window() -> None:
    one, two = (
        turn(name, messages=says("where is it?"), reply=reply) for name, reply in (("t1", "here"), ("t2", "there"))
    )
    content, counts = made(one, two, rating("b", "t1", "pick", Pick("t2")), max_exchanges=1)
    assert [(pair.chosen, pair.rejected) for pair in content["pairs"]] == [("here", "there")]
    assert [turn.turn_id for turn in content["turns"]] == ["t1"]
    assert (counts.in_window, counts.dropped) == (1, {"window_full": 1})


def test_what_is_said_of_turns_that_are_not_in_the_window_is_accounted_for_by_the_reason() -> None:
    events: list[Event] = [
        *(turn(f"t{i}", messages=says(f"question {i}")) for i in range(2)),
        turn("bad", outcome="error"),
        *(rating(f"r{i}", f"t{i}", "thumbs", True) for i in range(2)),
        rating("c", "bad", "thumbs", True),
        rating("d", "bad", "comment", "hm"),
    ]
    counts = made(*events, max_exchanges=1)[1]
    assert counts.rating_uses == {"used": 1, "outside_window": 1, "untrainable": 1, "inert": 1}


def test_one_turn_id_that_two_users_claim_with_the_same_words_is_nobodys() -> None:
    claims = turn("t1", user_id="alice"), turn("t1", user_id="bob")
    others = [turn(f"u{i}", user_id=user, messages=says(f"question {i}")) for i, user in enumerate(("alice", "bob"))]
    counts = made(*claims, *others, max_per_user=1)[1]
    assert (counts.turns, counts.in_window) == (3, 3)


TURN_IDS = st.sampled_from(["t1", "t2", "t3", "t4"])
TIMES = st.integers(0, 6).map(lambda minute: START_US + minute * MINUTE_US)
USERS = st.sampled_from(["alice", "bob", None])
EVENT_IDS = st.integers(0, 30).map(str)
CONTEXTS = st.sampled_from(["where is it?", "where is it please?", "something quite different"]).map(says)
VALUES = st.one_of(
    st.tuples(st.just("thumbs"), st.sampled_from([True, False, None])),
    st.tuples(st.just("stars"), st.sampled_from([1, 3, 5, None])),
    st.tuples(st.just("pick"), st.one_of(st.none(), st.builds(Pick, TURN_IDS, st.booleans()))),
    st.tuples(st.just("edit"), st.sampled_from(["better", "reply 1", None])),
    st.tuples(st.just("signal"), st.sampled_from(["regenerate", "copy", None])),
    st.tuples(
        st.just("score"), st.one_of(st.none(), st.builds(Score, st.sampled_from(["csat", "solved"]), st.just(0.5)))
    ),
    st.tuples(st.just("comment"), st.just("hm")),
)


@st.composite
def turns(draw: st.DrawFn) -> Turn:
    user = draw(USERS)
    return turn(
        draw(TURN_IDS),
        event_id="s" + draw(EVENT_IDS),
        occurred_at_us=draw(TIMES),
        messages=draw(CONTEXTS),
        reply=draw(st.sampled_from(["reply 1", "reply 2", ""])),
        user_id=user,
        bucket=splits.bucket(user or "c1", "default"),
        replaces=draw(st.one_of(st.none(), TURN_IDS)),
        locale=draw(st.sampled_from(["en", "de"])),
        origin=draw(ORIGINS),
    )


ORIGINS = st.sampled_from(["ingest", "file", "gateway", "feedback"])


@st.composite
def ratings(draw: st.DrawFn) -> Rating:
    kind, value = draw(VALUES)
    of_turn = draw(TURN_IDS) if kind in contract.NEEDS_TURN else draw(st.one_of(st.none(), TURN_IDS))
    source = draw(st.sampled_from(["user", "expert", "system"]))
    changes = {"source": source, "user_id": draw(USERS), "occurred_at_us": draw(TIMES), "origin": draw(ORIGINS)}
    return rating("r" + draw(EVENT_IDS), of_turn, kind, value, **changes)


@st.composite
def judgements(draw: st.DrawFn) -> Verdict | Unjudged:
    verdict_id, turn_id, at_us = "v" + draw(EVENT_IDS), draw(TURN_IDS), draw(TIMES)
    if draw(st.booleans()):
        return unjudged(verdict_id, turn_id, draw(st.sampled_from(["budget", "timeout"])), occurred_at_us=at_us)
    value = draw(st.sampled_from([0.1, 0.5, 0.9]))
    if draw(st.booleans()):
        return verdict(verdict_id, turn_id, score=value, occurred_at_us=at_us)
    if draw(st.booleans()):
        of_edit = edit_digest(
            draw(st.sampled_from(["reply 1", "reply 2"])), draw(st.sampled_from(["better", "reply 1"]))
        )
        return verdict(verdict_id, turn_id, edit=of_edit, preference=value, occurred_at_us=at_us)
    return verdict(verdict_id, turn_id, other_turn_id=draw(TURN_IDS), preference=value, occurred_at_us=at_us)


HISTORIES = st.tuples(
    st.lists(turns(), min_size=1, max_size=8), st.lists(ratings(), max_size=12), st.lists(judgements(), max_size=4)
).map(lambda parts: [*parts[0], *parts[1], *parts[2]])


TIGHT: dict[str, Any] = {
    "max_per_user": 2,
    "max_exchanges": 3,
    "max_per_prompt": 2,
    "max_user_edits": 1,
    "max_anonymous_edits": 1,
    "max_judge_share": 0.5,
}


@settings(max_examples=200)
@given(HISTORIES, st.data())
def test_any_order_with_any_duplicates_is_the_same_dataset(events: list[Event], data: st.DataObject) -> None:
    again = data.draw(st.lists(st.sampled_from(events), max_size=6))
    shuffled = data.draw(st.permutations([*events, *again]))
    assert dataset_hash(*shuffled, **TIGHT) == dataset_hash(*events, **TIGHT)


@settings(max_examples=200)
@given(HISTORIES)
def test_the_key_that_user_ids_are_hashed_with_does_not_show(events: list[Event]) -> None:
    def rekeyed(event: Event) -> Event:
        if isinstance(event, Turn | Rating) and event.user_id is not None:
            return msgspec.structs.replace(event, user_id={"alice": "zz", "bob": "aa"}[event.user_id])
        return event

    assert dataset_hash(*map(rekeyed, events), **TIGHT) == dataset_hash(*events, **TIGHT)


@settings(max_examples=100)
@given(HISTORIES)
def test_the_key_that_personal_ids_are_hashed_with_does_not_show(events: list[Event]) -> None:
    personal = [event for event in events if isinstance(event, Turn | Rating)]

    def dialled(event: Turn | Rating) -> Turn | Rating:
        numbers = {name: f"+49170123456{name[1]}" for name in ("t1", "t2", "t3", "t4")}
        changes: dict[str, Any] = {"conversation_id": "+491701234567", "turn_id": numbers.get(event.turn_id or "")}
        if isinstance(event, Turn):
            changes["replaces"] = numbers.get(event.replaces or "")
        elif isinstance(event.value, Pick):
            changes["value"] = Pick(numbers[event.value.over], event.value.tie)
        return msgspec.structs.replace(event, **changes)

    def kept(key: bytes) -> list[Event]:
        return [Edge(key).redacted(dialled(event)) for event in personal]

    assert not any("4917" in msgspec.json.encode(event).decode() for event in kept(b"a"))
    loose = {"max_user_edits": 1}
    assert len({dataset_hash(*kept(key), **loose) for key in (b"a", b"b", b"c")}) == 1


@settings(max_examples=200)
@given(HISTORIES)
def test_every_event_is_accounted_for_once(events: list[Event]) -> None:
    content, counts = compute(MemoryFacts(events), AS_OF_US, WindowSettings(**TIGHT))
    given_ratings = {event.event_id for event in events if isinstance(event, Rating)}
    served = {event.event_id for event in events if isinstance(event, Turn)}
    assert sum(counts.ratings.values()) == sum(counts.rating_uses.values()) == len(given_ratings)
    assert counts.turns == counts.in_window + sum(counts.dropped.values()) + sum(counts.untrainable.values())
    assert counts.duplicates + len(given_ratings) + len(served) == sum(isinstance(e, Turn | Rating) for e in events)
    assert counts.unrated >= sum(counts.unjudged.values()) >= counts.unrated - counts.judged
    assert min([0, *counts.rating_uses.values(), *counts.verdict_uses.values()]) == 0
    ids = [row["id"] for table in TABLES if table != "turns" for row in content[table]]
    assert len(ids) == len(set(ids))


@settings(max_examples=200)
@given(HISTORIES)
def test_how_many_texts_are_looked_at_changes_nothing_where_no_two_are_alike(events: list[Event]) -> None:
    tight = WindowSettings(max_exchanges=1, max_per_prompt=100, near_duplicate=1.0, max_per_user=1)
    apart = [msgspec.structs.replace(e, bucket=TRAIN) if isinstance(e, Turn) else e for e in events]
    content, counts = compute(MemoryFacts(apart), AS_OF_US, tight)
    with patch.object(window, "ROOM_BEFORE_TEXTS", 100):
        same, more = compute(MemoryFacts(apart), AS_OF_US, tight)
    assert same == content
    assert (counts.rating_uses, counts.verdict_uses) == (more.rating_uses, more.verdict_uses)


@settings(max_examples=100)
@given(HISTORIES, TIMES)
def test_what_comes_after_as_of_does_not_matter(events: list[Event], as_of_us: int) -> None:
    past = [event for event in events if event.occurred_at_us <= as_of_us]
    assert compute(MemoryFacts(events), as_of_us, WindowSettings()) == compute(
        MemoryFacts(past), as_of_us, WindowSettings()
    )


@pytest.mark.parametrize(
    "changed",
    [
        [*EVENTS, turn("t5")],
        EVENTS[:-1],
        [*EVENTS[:-1], verdict("v", "t3", score=0.26)],
        [*EVENTS, rating("z", "t1", "thumbs", False, occurred_at_us=AS_OF_US)],
    ],
    ids=["another turn", "no verdict", "another score", "a late rating"],
)
def test_the_hash_covers_what_was_said(changed: list[Event]) -> None:
    assert dataset_hash(*changed) != dataset_hash(*EVENTS)


def test_the_hash_of_a_known_dataset_never_changes_within_a_rules_version() -> None:
    # If a rule was meant to change, raise RULES_VERSION and write the new hash down.
    assert (RULES_VERSION, dataset_hash(*EVENTS)[:23]) == ("4", "sha256:063be7d20e25e0fb")


def test_turns_beyond_the_age_are_not_looked_at_and_the_very_moment_is_in() -> None:
    old = turn("old", occurred_at_us=AS_OF_US - 60_000_001)
    just = turn("just", occurred_at_us=AS_OF_US - 60_000_000)
    late = rating("a", "old", "thumbs", True, occurred_at_us=AS_OF_US)
    content, counts = compute(MemoryFacts([old, just, late]), AS_OF_US, WindowSettings(max_age_s=60))
    assert [row["turn_id"] for row in content["turns"]] == ["just"]
    assert (counts.turns, counts.older_turns, counts.orphan_ratings, counts.too_old_ratings) == (1, 1, 0, 1)


def test_turns_that_each_conversation_counts_for_itself_are_apart() -> None:
    conversations = ("a", "b", "c")
    turns = [
        turn("2", conversation_id=name, event_id=f"s{name}", messages=says(f"what of {name}?"))
        for name in conversations
    ]
    given = [rating(f"r{name}", "2", "thumbs", name != "b", conversation_id=name) for name in conversations]
    content, counts = made(*turns, *given)
    assert {(x.conversation_id, x.desirable) for x in content["unpaired"]} == {("a", 1.0), ("b", 0.0), ("c", 1.0)}
    assert (counts.turns, counts.conflicts, counts.orphan_ratings) == (3, 0, 0)


@pytest.mark.parametrize("event_id", ["s1", "another"])
def test_a_turn_that_was_served_here_is_not_told_anew_by_whoever_may_ingest(event_id: str) -> None:
    served = turn("t1", event_id="s1", reply="fine", origin="gateway")
    others = [turn("t1", event_id=event_id, reply=f"buy {n}", user_id="another") for n in range(20)]
    content, counts = made(*others[:10], served, *others[10:], rating("a", "t1", "thumbs", True))
    (label,) = content["unpaired"]
    assert (label.reply, counts.turns, counts.conflicts > 0) == ("fine", 1, True)


def test_what_whoever_was_shown_a_reply_sends_takes_no_experts_edit_away() -> None:
    edits = [rating(f"e{n}", f"t{n}", "edit", "over there", source="expert", user_id="expert") for n in range(20)]
    served = [turn(f"t{n}", messages=says(f"question {n} of {n * n}?"), user_id=f"u{n}") for n in range(20)]
    comments = [rating(f"e{n}", f"t{n}", "comment", "x", origin="feedback") for n in range(20)]
    content, counts = made(*comments, *served, *edits, *comments)
    assert len(content["demonstrations"]) == 20
    assert counts.rating_uses == {"used": 20}


def test_the_same_event_by_two_ways_is_a_duplicate_and_no_conflict() -> None:
    by_file, by_gateway = turn("t1", user_id="one"), turn("t1", user_id="other", origin="gateway")
    for events in ([by_file, by_gateway], [by_gateway, by_file]):
        _, counts = made(*events)
        assert (counts.turns, counts.duplicates, counts.conflicts) == (1, 1, 0)


def test_a_rating_of_a_turn_that_its_conversation_does_not_have_is_an_orphan() -> None:
    content, counts = made(turn("t1"), rating("a", "t1", "thumbs", True, conversation_id="another"))
    assert not content["unpaired"]
    assert (counts.orphan_ratings, counts.rating_uses) == (1, {"orphan": 1})


def test_a_pick_and_a_reply_that_replaces_look_in_their_own_conversation() -> None:
    here, there = (
        turn("t1", event_id="s1"),
        turn("t2", conversation_id="another", event_id="s2", messages=says("what about t1?")),
    )
    content, counts = made(here, there, rating("a", "t1", "pick", Pick("t2")))
    assert not content["pairs"]
    assert counts.rating_uses == {"mismatched": 1}
