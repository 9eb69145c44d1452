from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feedback.content import UNREDACTABLE, prompt_of, text_of, trainable_text, untrainable
from feedback.dataset import census
from tests.feedback.builders import rating, says, turn
from tests.feedback.labels.test_pairing import CALL, IMAGE, learn


def test_text_in_parts_is_text() -> None:
    parts = [{"type": "text", "text": "he"}, {"type": "text", "text": "re"}]
    spoken = turn("t1", messages=[{"role": "user", "content": parts}], reply={"role": "assistant", "content": parts})
    (label,) = learn(spoken, rating("a", "t1", "thumbs", True)).unpaired
    assert (label.prompt, label.reply) == ([{"role": "user", "content": "here"}], "here")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"train": False, "outcome": "error", "truncated": 1}, "train_false"),
        ({"outcome": "aborted", "reply": ""}, "outcome_aborted"),
        ({"truncated": 1, "reply": ""}, "truncated"),
        ({"reply": CALL}, "reply_not_text"),
        ({"reply": {"role": "assistant", "content": "no", "refusal": "no"}}, "reply_not_text"),
        ({"reply": {"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}]}}, "reply_not_text"),
        ({"reply": " \n", "messages": []}, "reply_empty"),
        ({"messages": [*says("look"), IMAGE]}, "prompt_not_text"),
        ({"messages": [*says("a"), {"role": "tool", "content": "42"}]}, "prompt_not_text"),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": None}]}]}, "prompt_not_text"),
        ({"messages": []}, "prompt_empty"),
        ({"messages": [{"role": "user", "content": " "}, {"role": "assistant", "content": "hm"}]}, "prompt_empty"),
        ({"messages": [{"role": "user", "content": " ", "name": "ann"}]}, "prompt_empty"),
    ],
)
def test_why_a_turn_teaches_nothing_is_one_reason_the_first_that_holds(changes: dict[str, Any], reason: str) -> None:
    assert untrainable(turn("t1", **changes)) == reason


def test_an_unredactable_turn_is_counted_and_nothing_is_learned_from_it() -> None:
    # a gateway keeps it so, see deploy/gateway/redaction.py; whatever texts it may have
    unredactable = turn("t", extra={UNREDACTABLE: True})
    assert untrainable(unredactable) == UNREDACTABLE
    assert untrainable(turn("t", extra={UNREDACTABLE: True}, messages=[], reply="")) == UNREDACTABLE
    taken = census.take([(unredactable, "a"), (turn("other"), "b")])
    assert sorted(map(str, (taken.reasons[reason] for reason in taken.reason))) == ["None", UNREDACTABLE]


def test_what_a_message_carries_beside_its_text_does_not_matter() -> None:
    named = {"role": "user", "content": "hi", "name": "ann", "tool_calls": None, "refusal": ""}
    assert text_of(named) == "hi"
    assert prompt_of([named]) == says("hi")


TEXTS = st.sampled_from(["", " ", "hello", "\u3000"])
PARTS = st.lists(
    st.one_of(
        st.builds(lambda text: {"type": "text", "text": text}, TEXTS),
        st.sampled_from([{"type": "image_url"}, {"type": "text"}, {}]),
    ),
    max_size=2,
)
MESSAGES = st.fixed_dictionaries(
    {
        "role": st.sampled_from(["system", "developer", "user", "assistant", "tool", "function"]),
        "content": st.one_of(st.none(), TEXTS, PARTS),
    },
    optional={"name": st.just("ann"), "refusal": st.sampled_from([None, "no"]), "tool_calls": st.just([{"id": "1"}])},
)


@given(st.lists(MESSAGES, max_size=4), st.one_of(TEXTS, MESSAGES))
def test_a_turn_has_a_text_to_learn_from_exactly_where_no_reason_speaks_against_it(
    messages: list[dict[str, Any]], reply: Any
) -> None:
    served = turn("t1", messages=messages, reply=reply)
    if untrainable(served) is None:
        text = trainable_text(served)
        assert text.reply.strip()
        assert any(message["role"] == "user" and message["content"].strip() for message in text.prompt)
    elif untrainable(served) in ("reply_not_text", "prompt_not_text"):
        with pytest.raises(ValueError, match=r"t1 is not trainable: \w+_not_text"):
            trainable_text(served)
    else:
        assert untrainable(served) in ("reply_empty", "prompt_empty")
