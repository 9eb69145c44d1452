"""What counts as a message and as a reply."""

from __future__ import annotations

from typing import Any

import pytest

from feedback.intake.contract import Rejected
from feedback.records import Turn
from tests.feedback.intake.test_contract import TURN, parsed

CALLS = [{"id": "c1", "type": "function", "function": {"name": "look_up", "arguments": "{}"}}]
PARTS = [{"type": "text", "text": "hello"}]


@pytest.mark.parametrize(
    "reply",
    [
        "",
        "text",
        {"content": "text"},
        {"role": "assistant", "content": ""},
        {"role": "assistant", "content": PARTS},
        {"role": "assistant", "content": None},  # filtered, or cut while it thought
        {"role": "assistant", "content": None, "tool_calls": CALLS},
        {"role": "assistant", "tool_calls": CALLS},
        {"role": "assistant", "content": None, "function_call": {"name": "look_up", "arguments": "{}"}},
        {"role": "assistant", "refusal": "no"},
        {"role": "assistant", "audio": {"id": "a1"}},
        {"role": "assistant", "reasoning_content": "hm", "content": "yes"},
    ],
)
def test_a_reply_is_text_or_an_assistant_message(reply: Any) -> None:
    turn = parsed(TURN, reply=reply)
    assert isinstance(turn, Turn)
    assert turn.reply == reply


@pytest.mark.parametrize(
    ("reply", "code", "field"),
    [
        ({"a": 1}, "missing_field", "reply.content"),
        ({}, "missing_field", "reply.content"),
        ({"role": "assistant"}, "missing_field", "reply.content"),
        ({"text": "hello", "id": 3}, "missing_field", "reply.content"),
        ({"role": "user", "content": "hello"}, "bad_value", "reply.role"),
        ({"role": "tool", "content": "hello"}, "bad_value", "reply.role"),
        ({"role": None, "content": "hello"}, "missing_field", "reply.role"),
        ({"role": "assistant", "content": {"text": "hello"}}, "wrong_type", "reply.content"),
        (["hello"], "wrong_type", "reply"),
        (17, "wrong_type", "reply"),
    ],
)
def test_what_is_no_assistant_message_is_no_reply(reply: Any, code: str, field: str) -> None:
    rejected = parsed(TURN, reply=reply)
    assert isinstance(rejected, Rejected)
    assert (rejected.code, rejected.field) == (code, field)
    assert "reply" in rejected.message


@pytest.mark.parametrize("role", ["user", "system", "developer"])
@pytest.mark.parametrize("message", [{}, {"content": None}, {"name": "ann"}, {"tool_calls": CALLS}])
def test_a_message_of_a_user_or_system_without_content_is_none(role: str, message: dict[str, Any]) -> None:
    rejected = parsed(TURN, messages=[{"role": "user", "content": "hello"}, {"role": role, **message}])
    assert isinstance(rejected, Rejected)
    assert (rejected.code, rejected.field) == ("missing_field", "messages[1].content")
    assert role in rejected.message


@pytest.mark.parametrize("message", [{"a": 1}, {}, {"name": "bot"}])
def test_an_assistant_message_that_says_and_calls_nothing_is_none(message: dict[str, Any]) -> None:
    rejected = parsed(TURN, messages=[{"role": "assistant", **message}])
    assert isinstance(rejected, Rejected)
    assert (rejected.code, rejected.field) == ("missing_field", "messages[0].content")


def test_tool_calls_tool_messages_and_parts_stay_as_they_are() -> None:
    messages = [
        {"role": "system", "content": PARTS},
        {"role": "user", "content": PARTS},
        {"role": "user", "content": ""},
        {"role": "assistant", "content": None, "tool_calls": CALLS},
        {"role": "tool", "tool_call_id": "c1", "content": "found"},
        {"role": "tool", "tool_call_id": "c1"},
        {"role": "function", "name": "look_up", "content": None},
        {"role": "assistant", "function_call": {"name": "look_up", "arguments": "{}"}},
    ]
    turn = parsed(TURN, messages=messages)
    assert isinstance(turn, Turn)
    assert turn.messages == messages
