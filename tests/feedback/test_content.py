from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feedback.content import UNREDACTABLE, prompt_of, question_of, readable, text_of, trainable_text, untrainable
from feedback.dataset import census
from feedback.texts import is_blank
from tests.feedback.builders import rating, says, turn
from tests.feedback.labels.test_pairing import CALL as CALLING
from tests.feedback.labels.test_pairing import IMAGE, learn


def test_text_in_parts_is_text() -> None:
    parts = [{"type": "text", "text": "he"}, {"type": "input_text", "text": "re"}]
    spoken = turn("t1", messages=[{"role": "user", "content": parts}], reply={"role": "assistant", "content": parts})
    (label,) = learn(spoken, rating("a", "t1", "thumbs", True)).unpaired
    assert (label.prompt, label.reply) == ([{"role": "user", "content": "he\nre"}], "he\nre")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"train": False, "outcome": "error", "truncated": 1}, "train_false"),
        ({"outcome": "aborted", "reply": ""}, "outcome_aborted"),
        ({"truncated": 1, "reply": ""}, "truncated"),
        ({"reply": CALLING}, "reply_not_text"),
        ({"reply": {"role": "assistant", "content": "no", "refusal": "no"}}, "reply_not_text"),
        ({"reply": {"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}]}}, "reply_not_text"),
        ({"reply": {"role": "assistant", "content": "Let me see.", "tool_calls": [{"id": "1"}]}}, "reply_not_text"),
        ({"reply": "", "finish_reason": "tool_calls"}, "reply_not_text"),
        ({"reply": " \n", "messages": []}, "reply_empty"),
        ({"reply": {"role": "assistant", "content": None}}, "reply_empty"),
        ({"reply": {"role": "assistant", "content": None, "reasoning_content": "hm"}}, "reply_empty"),
        ({"reply": {"role": "assistant", "content": [{"type": "reasoning", "text": "hm"}]}}, "reply_empty"),
        ({"reply": "\u200b\ufeff\u2800"}, "reply_empty"),
        ({"reply": "<think>that ran into the limit"}, "reply_empty"),
        ({"reply": "<think>hm</think>\u200b"}, "reply_empty"),
        ({"finish_reason": "length"}, "finish_length"),
        ({"finish_reason": "MAX_TOKENS"}, "finish_length"),
        ({"finish_reason": "content_filter"}, "finish_content_filter"),
        ({"finish_reason": "SAFETY"}, "finish_content_filter"),
        ({"finish_reason": "content_filter", "reply": ""}, "reply_empty"),
        ({"finish_reason": "length", "reply": "<think>hm"}, "reply_empty"),
        ({"messages": [*says("look"), IMAGE]}, "prompt_not_text"),
        ({"messages": [*says("a"), {"role": "robot", "content": "42"}]}, "prompt_not_text"),
        ({"messages": [*says("a"), {"role": "assistant", "tool_calls": [{"id": "1"}]}]}, "prompt_not_text"),
        ({"messages": [*says("a"), {"role": "assistant", "tool_calls": ["track"]}]}, "prompt_not_text"),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": None}]}]}, "prompt_not_text"),
        ({"messages": []}, "prompt_empty"),
        ({"messages": [{"role": "user", "content": " "}, {"role": "assistant", "content": "hm"}]}, "prompt_empty"),
        ({"messages": [{"role": "user", "content": " ", "name": "ann"}]}, "prompt_empty"),
        ({"messages": [{"role": "user", "content": "\u200b"}]}, "prompt_empty"),
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


CALL = {"id": "c9", "type": "function", "function": {"name": "track", "arguments": '{"id":"K-1"}'}}
TOLD = {"id": "call_1", "type": "function", "function": CALL["function"]}


def test_calls_of_tools_in_the_history_are_learned_from_with_ids_that_say_nothing() -> None:
    asked = says("Where is K-1?")
    calling = {"role": "assistant", "content": None, "tool_calls": [CALL], "reasoning_content": "hm", "refusal": None}
    told = {"role": "tool", "tool_call_id": "c9", "content": [{"type": "text", "text": "in transit"}], "name": "track"}
    assert prompt_of([*asked, calling, told]) == [
        *asked,
        {"role": "assistant", "content": "", "tool_calls": [TOLD]},
        {"role": "tool", "content": "in transit", "tool_call_id": "call_1"},
    ]
    former = {"role": "assistant", "content": "", "function_call": CALL["function"]}
    assert prompt_of([*asked, former, {"role": "function", "name": "track", "content": "in transit"}]) == [
        *asked,
        {"role": "assistant", "content": "", "tool_calls": [TOLD]},
        {"role": "tool", "content": "in transit", "tool_call_id": "call_1"},
    ]
    assert untrainable(turn("t", messages=[*asked, calling, told], finish_reason="stop")) is None


def test_an_empty_list_of_calls_is_none() -> None:
    reply = {"role": "assistant", "content": "Hi!", "tool_calls": [], "function_call": None, "annotations": []}
    assert trainable_text(turn("t", reply=reply)).reply == "Hi!"
    assert prompt_of([reply]) == [{"role": "assistant", "content": "Hi!"}]
    assert prompt_of([{"role": "assistant", "content": None}]) == [{"role": "assistant", "content": ""}]


def test_thoughts_are_learned_from_neither_in_the_reply_nor_in_the_history() -> None:
    messages = [*says("one", "<think>secret</think>Sure.", "and <think>two</think>?")]
    thinking = {"role": "assistant", "content": "<think>hm</think>\n\nFine.", "reasoning": "hm"}
    text = trainable_text(turn("t", messages=messages, reply=thinking))
    assert (text.prompt, text.reply) == (says("one", "Sure.", "and <think>two</think>?"), "Fine.")
    parts = [{"type": "thinking", "thinking": "hm"}, {"type": "output_text", "text": "Done."}]
    assert trainable_text(turn("t", reply={"role": "assistant", "content": parts})).reply == "Done."


def test_a_reply_that_ended_by_itself_is_learned_from_whatever_the_engine_calls_it() -> None:
    assert [untrainable(turn("t", finish_reason=ended)) for ended in (None, "stop", "end_turn", "eos_token")] == [
        None
    ] * 4


def test_the_clock_of_the_system_changes_no_question_and_that_of_a_user_does() -> None:
    def asked(system: str, user: str) -> Any:
        return question_of([{"role": "system", "content": system}, {"role": "user", "content": user}])

    assert asked("It is 10:15:00.", "Who?") == asked("It is 10:15:20.", "Who?")
    assert asked("It is 10:15:00.", "At 10:15?") != asked("It is 10:15:00.", "At 10:16?")
    assert asked("You are Bo.", "Who?") != asked("You are Al.", "Who?")


TEXTS = st.sampled_from(["", " ", "hello", "\u3000", "\u200b", "<think>hm", "<think>hm</think>hello"])
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


@settings(max_examples=100)
@given(st.lists(MESSAGES, max_size=4), st.one_of(TEXTS, MESSAGES))
def test_a_turn_has_a_text_to_learn_from_exactly_where_no_reason_speaks_against_it(
    messages: list[dict[str, Any]], reply: Any
) -> None:
    served = turn("t1", messages=messages, reply=reply)
    if untrainable(served) is None:
        text = trainable_text(served)
        assert not is_blank(text.reply)
        assert "think" not in text.reply
        assert any(message["role"] == "user" and not is_blank(message["content"]) for message in text.prompt)
    elif untrainable(served) in ("reply_not_text", "prompt_not_text"):
        with pytest.raises(ValueError, match=r"t1 is not trainable: \w+_not_text"):
            trainable_text(served)
    else:
        assert untrainable(served) in ("reply_empty", "prompt_empty")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["id", "type", "text", "function", "custom", "name", "arguments", "input"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)
ANYTHING = st.fixed_dictionaries(
    {"role": st.sampled_from(["system", "user", "assistant", "tool", "function"])},
    optional=dict.fromkeys(("tool_calls", "function_call", "tool_call_id", "name", "refusal"), JSON)
    | {"content": st.none() | st.text(max_size=5) | st.lists(st.dictionaries(st.sampled_from(["type", "text"]), JSON))},
)


@settings(max_examples=100)
@given(st.lists(ANYTHING, max_size=4))
def test_whatever_a_message_holds_it_is_said_plainly_or_not_at_all(messages: list[dict[str, Any]]) -> None:
    found = readable(messages)
    assert all(isinstance(message["content"], str) for message in found)
    assert readable(found) == found
    prompt = prompt_of(messages)
    if prompt is not None:
        assert found == prompt == prompt_of(prompt)
    assert untrainable(turn("t", messages=messages, reply=messages[0] if messages else "ok")) != ""
