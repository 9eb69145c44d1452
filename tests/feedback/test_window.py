import random
from typing import Any

import pytest

from feedback.exchanges import TurnKey
from feedback.records import Exchange, Provenance, Source, Turn, UnpairedLabel
from feedback.settings import WindowSettings
from feedback.window import Window, beyond_judge_share, key_of, prompt_key, select, shingles
from tests.feedback.builders import AS_OF_US, CALIBRATE, GATE, MINUTE_US, START_US, TRAIN, rating, says, turn, verdict

LONG = "please tell me where my parcel with the green ribbon has gone since last tuesday morning"
LIKE_LONG = LONG + " sir"
UNLIKE = "can I change the address of an order that is already on its way to the old one"


def window(*turns: Turn | Exchange, **settings: Any) -> Window:
    exchanges = [t if isinstance(t, Exchange) else Exchange(turn=t, content_hash="") for t in turns]
    return select((key_of(exchange) for exchange in exchanges), AS_OF_US, WindowSettings(**settings))


def ids(kept: frozenset[TurnKey]) -> list[str]:
    return sorted(turn_id for _, turn_id in kept)


def asks(turn_id: str, text: str, **changes: Any) -> Turn:
    return turn(turn_id, messages=says(text), **changes)


def test_age_counts_against_as_of_and_the_very_moment_is_in() -> None:
    old = turn("old", occurred_at_us=AS_OF_US - 60_000_001)
    just = turn("just", occurred_at_us=AS_OF_US - 60_000_000)
    kept = window(old, just, max_age_s=60)
    assert ids(kept.kept) == ["just"]
    assert kept.dropped == {"too_old": 1}


def test_of_prompts_that_are_alike_the_earliest_stay() -> None:
    turns = [asks(f"t{i}", [LONG, LIKE_LONG][i % 2], occurred_at_us=START_US - i * MINUTE_US) for i in range(5)]
    kept = window(*turns, asks("u", UNLIKE), max_per_prompt=2)
    assert ids(kept.kept) == ["t3", "t4", "u"]
    assert kept.dropped == {"near_duplicate": 3}


def test_of_prompts_that_are_alike_labelled_ones_stay_first() -> None:
    early = Exchange(turn=asks("t1", LONG), content_hash="")
    judged = Exchange(turn=asks("t2", LONG), content_hash="", verdicts=(verdict("v", "t2", score=1.0),))
    late = asks("t3", LONG, occurred_at_us=START_US + 9 * MINUTE_US)
    rated = Exchange(turn=late, content_hash="", ratings=(rating("a", "t3", "thumbs", True),))
    assert ids(window(early, judged, rated, max_per_prompt=1).kept) == ["t3"]
    assert ids(window(early, judged, rated, max_per_prompt=2).kept) == ["t2", "t3"]


def test_likeness_is_per_split() -> None:
    turns = [asks("a", LONG, bucket=CALIBRATE), asks("b", LONG, bucket=TRAIN)]
    assert ids(window(*turns, max_per_prompt=1).kept) == ["a", "b"]


def test_train_prompts_like_a_gate_prompt_are_dropped_whatever_came_first() -> None:
    turns = [
        asks("gate", LONG, bucket=GATE, occurred_at_us=START_US + 99 * MINUTE_US),
        asks("same", LONG),
        asks("like", LIKE_LONG),
        asks("other", UNLIKE),
        asks("calibrate", LONG, bucket=CALIBRATE),
    ]
    kept = window(*turns)
    assert ids(kept.kept) == ["calibrate", "gate", "other"]
    assert kept.dropped == {"like_gate": 2}


def test_the_threshold_of_likeness_is_the_setting() -> None:
    turns = [asks("a", LONG), asks("b", LIKE_LONG)]
    one, other = shingles(LONG), shingles(LIKE_LONG)
    similarity = len(one & other) / len(one | other)
    assert 0.8 < similarity < 0.95
    assert ids(window(*turns, max_per_prompt=1, near_duplicate=similarity).kept) == ["a"]
    assert ids(window(*turns, max_per_prompt=1, near_duplicate=similarity + 0.01).kept) == ["a", "b"]
    assert ids(window(asks("a", LONG), asks("b", LONG), max_per_prompt=1, near_duplicate=1.0).kept) == ["a"]


def test_nearly_all_near_duplicates_are_found() -> None:
    words = random.Random(0).choices([f"word{i}" for i in range(500)], k=40 * 200)
    texts = [" ".join(words[i * 40 : i * 40 + 40]) for i in range(200)]
    originals = [asks(f"a{i:03}", text) for i, text in enumerate(texts)]
    # one more word at the end: 38 shingles of 39 are common
    copies = [asks(f"b{i:03}", text + " indeed") for i, text in enumerate(texts)]
    assert window(*originals, *copies, max_per_prompt=1).dropped["near_duplicate"] >= 198


@pytest.mark.parametrize(
    ("messages", "key"),
    [
        (says("Hi"), "hi"),
        (says("Hello", "What?\n  NOW", "ＹＥＳ"), "what? now yes"),
        ([*says("first"), *says("second")], "second"),
        ([{"role": "system", "content": "be kind"}, *says("Straße")], "strasse"),
        ([*says("question"), {"role": "assistant", "content": "after"}], "question"),
    ],
)
def test_prompts_are_compared_by_the_last_user_message_and_the_answer_before_it(messages: list[Any], key: str) -> None:
    assert prompt_key(turn("t", messages=messages)) == key


def test_a_growing_chat_is_no_duplicate_of_itself() -> None:
    spoken = [LONG, "We are looking into it right now, please wait a little", UNLIKE]
    assert ids(window(asks("a", LONG), turn("b", messages=says(*spoken)), max_per_prompt=1).kept) == ["a", "b"]


def test_scripts_without_spaces_are_compared_by_character() -> None:
    assert shingles("我的包裹") == {"我 的 包", "的 包 裹"}
    assert shingles("iPhone多少钱") == {"iPhone 多 少", "多 少 钱"}
    assert shingles("두 단어") == {"두 단어"}
    assert shingles("🙂") == {"🙂"}


def test_one_user_fills_no_more_than_the_cap_whatever_the_id() -> None:
    texts = [f"{i} {UNLIKE} {i} {i + 1} {i + 2} {i * 7} {i * 11} {i * 13}" for i in range(30)]
    for name in ("a", "zzz"):
        turns = [asks(f"t{i:02}", text, user_id=name if i < 20 else "someone") for i, text in enumerate(texts)]
        kept = window(*turns, max_per_user=5, max_per_prompt=100)
        assert kept.dropped == {"user_cap": 20}
        if name == "a":
            first = kept.kept
    assert kept.kept == first


def test_a_sample_does_not_look_at_user_ids() -> None:
    def kept(names: list[str]) -> frozenset[TurnKey]:
        return window(*(turn(f"t{i:02}", user_id=names[i % 2]) for i in range(30)), max_exchanges=10).kept

    assert kept(["a", "b"]) == kept(["b", "a"])


def test_a_full_window_keeps_what_people_rated() -> None:
    rated = Exchange(turn=turn("rated"), content_hash="", ratings=(rating("a", "rated", "thumbs", True),))
    assert "rated" in ids(window(*(turn(f"t{i}") for i in range(50)), rated, max_exchanges=1).kept)


def test_without_a_user_the_conversation_is_capped() -> None:
    turns = [turn(f"t{i}", user_id=None, conversation_id="c1" if i < 4 else "c2") for i in range(6)]
    assert window(*turns, max_per_user=2).dropped == {"user_cap": 2}


def test_a_sample_changes_only_by_what_comes_and_goes() -> None:
    turns = [turn(f"t{i:03}") for i in range(200)]
    before = window(*turns[:150], max_exchanges=50, max_per_prompt=1000).kept
    after = window(*turns, max_exchanges=50, max_per_prompt=1000).kept
    assert before - after <= before
    assert len(before) == len(after) == 50
    assert {key for key in after if key[1] < "t150"} <= before


def test_one_locale_leaves_room_for_others_only_where_there_are_others() -> None:
    english = [turn(f"e{i}", locale="en") for i in range(12)]
    assert len(window(*english, max_exchanges=10).kept) == 10
    kept = window(*english, turn("f", locale="fr"), max_exchanges=10, max_locale_share=0.5)
    assert kept.dropped == {"locale_cap": 7}
    assert "f" in ids(kept.kept)
    # Below max_exchanges there is room for all: one stray locale costs the others nothing.
    assert window(*english, turn("f", locale="fr"), max_exchanges=100).dropped == {}


def test_the_order_of_keys_does_not_matter() -> None:
    turns = [asks(f"t{i}", [LONG, LIKE_LONG, UNLIKE][i % 3], bucket=i * 7 % 100) for i in range(30)]
    expected = window(*turns, max_per_prompt=3, max_exchanges=8)
    shuffled = random.Random(1).sample(turns, len(turns))
    assert window(*shuffled, max_per_prompt=3, max_exchanges=8) == expected


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
