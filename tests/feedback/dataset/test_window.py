import random
from typing import Any

import pytest

from feedback.dataset.compute import compute
from feedback.dataset.near_duplicates import shingles
from feedback.dataset.window import beyond_judge_share
from feedback.records import Judgement, Provenance, Rating, Source, Turn, UnpairedLabel
from feedback.settings import WindowSettings
from tests.feedback.builders import (
    AS_OF_US,
    CALIBRATE,
    GATE,
    MINUTE_US,
    START_US,
    TRAIN,
    MemoryFacts,
    rating,
    says,
    turn,
    verdict,
)

Event = Turn | Rating | Judgement

LONG = "please tell me where my parcel with the green ribbon has gone since last tuesday morning"
LIKE_LONG = LONG + " sir"
UNLIKE = "can I change the address of an order that is already on its way to the old one"


def sealed(*events: Event, **settings: Any) -> tuple[list[str], dict[str, int]]:
    content, counts = compute(MemoryFacts(events), AS_OF_US, WindowSettings(**settings))
    return [row["turn_id"] for row in content["turns"]], counts.dropped


def window(*events: Event, **settings: Any) -> list[str]:
    """The turns that are in, in order."""
    return sealed(*events, **settings)[0]


def dropped(*events: Event, **settings: Any) -> dict[str, int]:
    return sealed(*events, **settings)[1]


def asks(turn_id: str, text: str, **changes: Any) -> Turn:
    return turn(turn_id, messages=says(text), **changes)


def test_of_prompts_that_are_alike_so_many_stay_and_no_other_lot_changes_which() -> None:
    turns = [asks(f"t{i}", [LONG, LIKE_LONG][i % 2]) for i in range(5)]
    kept = window(*turns, asks("u", UNLIKE), max_per_prompt=2)
    assert "u" in kept
    assert len(kept) == 3
    assert dropped(*turns, asks("u", UNLIKE), max_per_prompt=2) == {"near_duplicate": 3}
    gone = next(turn for turn in turns if turn.turn_id not in kept)
    assert window(*(t for t in turns if t != gone), asks("u", UNLIKE), max_per_prompt=2) == kept


def test_of_prompts_that_are_alike_labelled_ones_stay_first() -> None:
    events = [asks(f"t{i}", [LONG, LIKE_LONG][i % 2]) for i in range(10)]
    said = (rating("a", "t7", "thumbs", True), verdict("v", "t2", score=1.0), rating("b", "t4", "comment", "hm"))
    assert window(*events, *said, max_per_prompt=1) == ["t7"]
    assert window(*events, *said, max_per_prompt=3) == ["t2", "t4", "t7"]


def test_likeness_is_per_split() -> None:
    turns = [asks("a", LONG, bucket=CALIBRATE), asks("b", LONG, bucket=TRAIN)]
    assert window(*turns, max_per_prompt=1) == ["a", "b"]


def test_train_prompts_like_a_gate_prompt_are_dropped_whatever_came_first() -> None:
    turns = [
        asks("gate", LONG, bucket=GATE, occurred_at_us=START_US + 99 * MINUTE_US),
        asks("same", LONG),
        asks("like", LIKE_LONG),
        asks("other", UNLIKE),
        asks("calibrate", LONG, bucket=CALIBRATE),
    ]
    thumb = rating("a", "gate", "thumbs", True)
    assert sealed(*turns, thumb) == (["calibrate", "gate", "other"], {"like_gate": 2})


def test_a_gate_turn_that_nobody_rated_takes_no_train_turn_away() -> None:
    turns = [asks("gate", LONG, bucket=GATE), asks("same", LONG), asks("like", LIKE_LONG)]
    assert sealed(*turns, verdict("v", "gate", score=1.0)) == (["gate", "like", "same"], {})


@pytest.mark.parametrize(("people", "stays"), [(5, False), (6, True)])
def test_what_many_people_asked_stays_in_train_although_a_gate_turn_was_rated(people: int, stays: bool) -> None:
    turns = [asks(f"t{n}", [LONG, LIKE_LONG][n % 2], user_id=f"u{n}") for n in range(people - 1)]
    again = asks("again", LONG, user_id="u1")
    gate = asks("gate", LONG, user_id="another", bucket=GATE)
    kept, why = sealed(*turns, again, gate, rating("a", "gate", "thumbs", True), max_per_prompt=20)
    assert (len(kept), why) == ((people + 1, {}) if stays else (1, {"like_gate": people}))


def test_the_threshold_of_likeness_is_the_setting() -> None:
    turns = [asks("a", LONG), asks("b", LIKE_LONG)]
    one, other = shingles(LONG), shingles(LIKE_LONG)
    similarity = len(one & other) / len(one | other)
    assert 0.8 < similarity < 0.95
    assert window(*turns, max_per_prompt=1, near_duplicate=similarity - 0.05) == ["a"]
    assert window(*turns, max_per_prompt=1, near_duplicate=similarity + 0.01) == ["a", "b"]
    assert window(asks("a", LONG), asks("b", LONG), max_per_prompt=1, near_duplicate=1.0) == ["a"]


def test_a_growing_chat_is_no_duplicate_of_itself() -> None:
    spoken = [LONG, "We are looking into it right now, please wait a little", UNLIKE]
    assert window(asks("a", LONG), turn("b", messages=says(*spoken)), max_per_prompt=1) == ["a", "b"]


def test_one_user_fills_no_more_than_the_cap_whatever_the_id() -> None:
    texts = [f"{i} {UNLIKE} {i} {i + 1} {i + 2} {i * 7} {i * 11} {i * 13}" for i in range(30)]

    def kept(name: str) -> tuple[list[str], dict[str, int]]:
        turns = [asks(f"t{i:02}", text, user_id=name if i < 20 else "someone") for i, text in enumerate(texts)]
        return sealed(*turns, max_per_user=5, max_per_prompt=100)

    assert kept("a")[1] == {"user_cap": 20}
    assert kept("a") == kept("zzz")


def test_a_sample_does_not_look_at_user_ids() -> None:
    def kept(names: list[str]) -> list[str]:
        return window(*(turn(f"t{i:02}", user_id=names[i % 2]) for i in range(30)), max_exchanges=10)

    assert kept(["a", "b"]) == kept(["b", "a"])


def test_a_full_window_keeps_what_people_rated() -> None:
    many = (turn(f"t{i}") for i in range(50))
    assert window(*many, turn("rated"), rating("a", "rated", "thumbs", True), max_exchanges=1) == ["rated"]


def test_without_a_user_the_conversation_is_capped() -> None:
    turns = [turn(f"t{i}", user_id=None, conversation_id="c1" if i < 4 else "c2") for i in range(6)]
    assert dropped(*turns, max_per_user=2) == {"user_cap": 2}


def test_a_sample_changes_only_by_what_comes_and_goes() -> None:
    turns = [turn(f"t{i:03}") for i in range(200)]
    before = window(*turns[:150], max_exchanges=50, max_per_prompt=1000)
    after = window(*turns, max_exchanges=50, max_per_prompt=1000)
    assert len(before) == len(after) == 50
    assert {name for name in after if name < "t150"} <= set(before)


def test_one_locale_leaves_room_for_others_only_where_there_are_others() -> None:
    english = [asks(f"e{i}", f"{i} {i + 1} {i + 2}", locale="en") for i in range(12)]
    french = asks("f", UNLIKE, locale="fr")
    assert len(window(*english, max_exchanges=10)) == 10
    kept, why = sealed(*english, french, max_exchanges=10, max_locale_share=0.5)
    assert why == {"locale_cap": 7}
    assert "f" in kept
    # Below max_exchanges there is room for all: one stray locale costs the others nothing.
    assert dropped(*english, french, max_exchanges=100) == {}


def test_a_window_is_full_though_much_of_it_was_alike() -> None:
    alike = [asks(f"a{i}", f"{LONG} {'x' * i}") for i in range(40)]
    others = [asks(f"b{i}", f"{i} {UNLIKE[i:]}", bucket=GATE) for i in range(20)]
    kept, why = sealed(*alike, *others, max_exchanges=30, max_per_prompt=15, near_duplicate=0.7)
    assert len(kept) == 30
    assert sum(why.values()) == 30


def test_the_order_of_turns_does_not_matter() -> None:
    turns = [asks(f"t{i}", [LONG, LIKE_LONG, UNLIKE][i % 3], bucket=i * 7 % 100) for i in range(30)]
    expected = sealed(*turns, max_per_prompt=3, max_exchanges=8)
    shuffled = random.Random(1).sample(turns, len(turns))
    assert sealed(*shuffled, max_per_prompt=3, max_exchanges=8) == expected


def label(number: int, source: Source) -> UnpairedLabel:
    provenance = Provenance(source=source, event_ids=(str(number),), at_us=0)
    return UnpairedLabel(
        id=f"{number:04}", prompt=says("?"), reply="!", kind="thumbs", desirable=1.0, weight=1.0, split="train",
        tenant="default", conversation_id="c", turn_id=str(number), locale=None, provenance=provenance,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("people", "judged", "share", "beyond"), [(3, 20, 0.7, 13), (3, 7, 0.7, 0), (0, 20, 0.7, 0), (3, 20, 1.0, 0)]
)
def test_the_judge_gives_at_most_its_share_where_people_gave_any(
    people: int, judged: int, share: float, beyond: int
) -> None:
    labels = [label(i, "user") for i in range(people)] + [label(100 + i, "judge") for i in range(judged)]
    dropped = beyond_judge_share(labels, share)
    assert len(dropped) == beyond
    assert all(int(name) >= 100 for name in dropped)
