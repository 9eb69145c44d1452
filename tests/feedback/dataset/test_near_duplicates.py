import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feedback.dataset.near_duplicates import NearDuplicates, prompt_key, shingles
from tests.feedback.builders import says, turn


def first_likes(prompts: list[str], threshold: float) -> list[str | None]:
    """What each prompt was like, of those before it that were like none."""
    alike, found = NearDuplicates(threshold), []
    for prompt in prompts:
        found.append(alike.first_like(prompt))
        if found[-1] is None:
            alike.add(prompt)
    return found


def test_nearly_all_near_duplicates_are_found() -> None:
    words = random.Random(0).choices([f"word{i}" for i in range(500)], k=40 * 200)
    texts = [" ".join(words[i * 40 : i * 40 + 40]) for i in range(200)]
    # one more word at the end: 38 shingles of 39 are common
    found = first_likes([*texts, *(text + " indeed" for text in texts)], 0.8)
    assert found[:200] == [None] * 200
    assert sum(like == text for like, text in zip(found[200:], texts, strict=True)) >= 198


@given(
    st.lists(st.lists(st.sampled_from("abcdef"), min_size=1, max_size=8).map(" ".join), max_size=12), st.floats(0.1, 1)
)
def test_what_is_found_is_alike_and_the_same_text_always_is(prompts: list[str], threshold: float) -> None:
    for prompt, like in zip(prompts, first_likes(prompts, threshold), strict=True):
        if like is not None:
            one, other = shingles(prompt), shingles(like)
            assert len(one & other) / len(one | other) >= threshold
    assert None not in first_likes(prompts * 2, threshold)[len(prompts) :]


@pytest.mark.parametrize(
    ("messages", "key"),
    [
        (says("Hi"), "hi"),
        (says("Hello", "What?\n  NOW", "ＹＥＳ"), "what? now yes"),
        ([*says("first"), *says("second")], "second"),
        ([{"role": "system", "content": "be kind"}, *says("Straße")], "strasse"),
        ([*says("question"), {"role": "assistant", "content": "after"}], "question"),
        (
            [{"role": "user", "content": [{"type": "text", "text": "one"}, {"type": "input_text", "text": "two"}]}],
            "one two",
        ),
        (says("a", "<think>hm</think>b", "c"), "b c"),
    ],
)
def test_prompts_are_compared_by_the_last_user_message_and_the_answer_before_it(messages: list[Any], key: str) -> None:
    assert prompt_key(turn("t", messages=messages)) == key


def test_scripts_without_spaces_are_compared_by_character() -> None:
    assert shingles("我的包裹") == {"我 的 包", "的 包 裹"}
    assert shingles("iPhone多少钱") == {"iPhone 多 少", "多 少 钱"}
    assert shingles("두 단어") == {"두 단어"}
    assert shingles("🙂") == {"🙂"}
