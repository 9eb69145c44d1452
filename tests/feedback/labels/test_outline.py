import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feedback.labels.outline import outline, text_digest
from tests.feedback.builders import CALIBRATE, says, turn
from tests.feedback.labels.test_pairing import IMAGE

IN_PARTS = [{"type": "text", "text": "he"}, {"type": "text", "text": "re"}]


def test_texts_that_are_the_same_have_one_digest_however_they_were_sent() -> None:
    plain = outline(turn("t1", messages=says("he\nre"), reply="he\nre"))
    parts = outline(
        turn(
            "t1",
            messages=[{"role": "user", "content": IN_PARTS, "name": "ann"}],
            reply={"role": "assistant", "content": IN_PARTS},
        )
    )
    assert (parts.context, parts.reply) == (plain.context, plain.reply)


def test_what_was_thought_before_a_reply_or_in_its_history_makes_no_other_one() -> None:
    thinking = outline(turn("t1", messages=says("a", "<think>x</think>b", "c"), reply="<think>y</think>\nhere"))
    plain = outline(turn("t1", messages=says("a", "b", "c"), reply="here"))
    assert (thinking.context, thinking.reply) == (plain.context, plain.reply)


@pytest.mark.parametrize(
    "messages",
    [
        says("there"),
        [{"role": "system", "content": "here"}],
        [*says("here"), *says("here")],
        [{"role": "user", "content": "here"}, IMAGE],
    ],
    ids=["another text", "another role", "said twice", "with an image"],
)
def test_what_is_asked_otherwise_is_another_context(messages: list[dict[str, Any]]) -> None:
    assert outline(turn("t1", messages=messages)).context != outline(turn("t1", messages=says("here"))).context


def test_two_contexts_that_are_not_just_text_are_the_same_only_if_all_that_was_sent_is() -> None:
    other = {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "y"}}]}
    turned = {"content": IMAGE["content"], "role": "user"}
    assert outline(turn("t1", messages=[IMAGE])).context == outline(turn("t2", messages=[turned])).context
    assert outline(turn("t1", messages=[IMAGE])).context != outline(turn("t1", messages=[other])).context


@given(st.text(alphabet=" \n\tab"), st.text(alphabet=" \n\tab"))
def test_how_much_space_a_reply_has_is_no_difference_and_all_else_is(one: str, other: str) -> None:
    assert (text_digest(one) == text_digest(other)) == (one.split() == other.split())


def test_an_outline_tells_split_and_reason_and_holds_no_text() -> None:
    secret = "a long secret " * 1_000
    found = outline(turn("t1", messages=says(secret), reply=secret, bucket=CALIBRATE, outcome="error"))
    assert (found.split, found.untrainable) == ("calibrate", "outcome_error")
    assert sum(sys.getsizeof(getattr(found, name)) for name in found.__struct_fields__) < 2_000
    assert "secret" not in repr(found)
