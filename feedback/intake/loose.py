"""What people's programs send where the contract says text or a whole number, and there is no doubt what is meant.

Numbers as ids and tags become the text that JSON has for them; null where something may be left out is left out. Only what
did not fit as it was comes here. Nothing else is touched, so that whoever explains the refusal finds what was sent.
"""

from __future__ import annotations

from typing import Any

import msgspec

from feedback.intake.refusal import Refusal, shown

IDS = frozenset(
    {
        "event_id",
        "conversation_id",
        "turn_id",
        "user_id",
        "tenant",
        "replaces",
        "rubric",
        "policy",
        "base",
        "finish_reason",
    }
)
_WHOLE = frozenset({"schema", "truncated"})
_LEFT_OUT = frozenset({"tags", "outcome", "truncated"})
"""Fields with a default, where null says no more than silence. Not `train` nor
`tenant`: whether to learn from people, and whose they are, is not guessed."""
_EXACT = 2**53
"""Beyond it a float is no longer one whole number."""


def loosened(document: dict[str, Any]) -> dict[str, Any]:
    """The event's known fields with what they mean in place of what was written. Raises Refusal."""
    loose = {name: value for name, value in document.items() if value is not None or name not in _LEFT_OUT}
    for name in loose.keys() & IDS:
        loose[name] = _id(loose[name])
    for name in loose.keys() & _WHOLE:
        loose[name] = whole(loose[name])
    if isinstance(tags := loose.get("tags"), dict):
        loose["tags"] = {name: _tag(name, value) for name, value in tags.items() if value is not None}
    return loose


def picked(value: Any) -> Any:
    """The value of a pick with its turn id as text."""
    if isinstance(value, dict) and "over" in value and type(value["over"]) is not str:
        return {**value, "over": _id(value["over"])}
    return value


def whole(value: Any) -> Any:
    """A float that is a whole number as that; anything else as it is."""
    return int(value) if type(value) is float and value.is_integer() and abs(value) < _EXACT else value


def _id(value: Any) -> Any:
    number = whole(value)
    return str(number) if type(number) is int and abs(number) < 2**64 else value


def _tag(name: str, value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bool | int | float):
        return msgspec.json.encode(value).decode()
    message = f"tags: {shown(name)} is {shown(value)}; a tag is text, a number, true or false"
    raise Refusal("wrong_type", "tags[...]", message)
