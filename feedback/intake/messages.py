"""What a chat message has to have. What else it carries is kept as it is."""

from __future__ import annotations

from typing import Any

from feedback.content import ROLES as ROLES
from feedback.intake.refusal import Refusal, shown
from feedback.intake.wire import WireTurn

_SPEAK = frozenset({"system", "developer", "user"})
_OF_AN_ASSISTANT = ("content", "tool_calls", "function_call", "refusal", "audio", "reasoning_content", "reasoning")


def check_messages(turn: WireTurn) -> None:
    """Raises Refusal where a message of the turn, or its reply, is none."""
    for position, message in enumerate(turn.messages):
        role = message.get("role")
        if type(role) is not str or role not in ROLES or type(message.get("content")) is not str:  # nearly all are so
            _check_message(message, f"messages[{position}]", message.get("role"))
    if isinstance(turn.reply, dict):
        _check_reply(turn.reply)


def _check_reply(reply: dict[str, Any]) -> None:
    role = reply.get("role", "assistant")
    _check_message(reply, "reply", role)
    if role != "assistant":
        message = f"reply.role is {shown(role)}: a reply is text, or a message of the role assistant"
        raise Refusal("bad_value", "reply.role", message)


def _check_message(message: dict[str, Any], place: str, role: Any) -> None:
    if role is None:
        raise Refusal("missing_field", f"{place}.role", f"{place}.role is missing")
    if not isinstance(role, str) or role not in ROLES:
        raise Refusal(
            "bad_value", f"{place}.role", f"{place}.role is {shown(role)}; known are {', '.join(sorted(ROLES))}"
        )
    content = message.get("content")
    if not (content is None or isinstance(content, str | list)):
        raise Refusal("wrong_type", f"{place}.content", f"{place}.content is neither text nor a list of parts")
    if isinstance(content, list) and not all(isinstance(part, dict) for part in content):
        raise Refusal("wrong_type", f"{place}.content", f"{place}.content holds a part that is no object")
    if content is None and role in _SPEAK:
        raise Refusal(
            "missing_field", f"{place}.content", f"{place}.content is missing: a {role} message says something"
        )
    if role == "assistant" and not any(name in message for name in _OF_AN_ASSISTANT):
        sentence = f"{place} is no assistant message: it has neither content nor tool_calls"
        raise Refusal("missing_field", f"{place}.content", sentence)
