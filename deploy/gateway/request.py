"""What a chat request asks for, as far as every engine has to know it: a ChatRequest out, or a 400 that names the field.

What else it asks for is between the client and the engine.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from deploy.engine.port import ChatRequest
from deploy.gateway.turn_ids import MAX_CHOICES
from deploy.web.errors import bad
from feedback.intake.contract import ROLES
from feedback.records import Message

MAX_MESSAGES = 2_000


def parse_chat(body: Mapping[str, Any]) -> ChatRequest:
    """The request in a JSON object. Raises ApiError naming the field."""
    model = body.get("model")
    if not isinstance(model, str) or not model:
        raise bad("model must be a string: GET /v1/models lists them", "model", "invalid_type")
    stream = _boolean(body, "stream")
    options = body.get("stream_options")
    if options is not None and (not isinstance(options, dict) or not stream):
        raise bad("stream_options is an object and needs stream: true", "stream_options")
    usage = _boolean(options or {}, "include_usage", "stream_options.include_usage")
    return ChatRequest(model, _messages(body.get("messages")), stream, usage, _choices(body.get("n")), body)


def _choices(value: Any) -> int:
    if value is None:
        return 1
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MAX_CHOICES:
        raise bad(f"n must be a whole number from 1 to {MAX_CHOICES}", "n")
    return value


def _messages(value: Any) -> list[Message]:
    if not isinstance(value, list) or not value:
        raise bad("messages must be a list of at least one message", "messages", "invalid_type")
    if len(value) > MAX_MESSAGES:
        raise bad(f"{len(value)} messages; at most {MAX_MESSAGES} are taken", "messages")
    for place, message in enumerate(value):
        _check_message(message, f"messages[{place}]")
    return value


def _check_message(message: Any, param: str) -> None:
    if not isinstance(message, dict):
        raise bad(f"{param} must be an object", param, "invalid_type")
    role, content = message.get("role"), message.get("content")
    if not isinstance(role, str) or role not in ROLES:
        raise bad(f"{param}.role must be one of {', '.join(sorted(ROLES))}", f"{param}.role")
    if isinstance(content, list):
        for place, part in enumerate(content):
            if not isinstance(part, dict) or not isinstance(part.get("type"), str):
                raise bad(
                    f"{param}.content[{place}] must be an object with a type",
                    f"{param}.content[{place}]",
                    "invalid_type",
                )
    elif content is None:
        if role != "assistant":
            raise bad(f"{param}.content is missing", f"{param}.content", "missing_field")
    elif not isinstance(content, str):
        raise bad(f"{param}.content must be text or a list of parts", f"{param}.content", "invalid_type")


def _boolean(body: Mapping[str, Any], name: str, param: str | None = None) -> bool:
    value, param = body.get(name), param or name
    if value is not None and not isinstance(value, bool):
        raise bad(f"{param} must be true or false", param, "invalid_type")
    return bool(value)
