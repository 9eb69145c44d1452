"""Pictures, sound and files within messages, as they are logged: what they were, not what they held."""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Sequence
from typing import Any
from urllib.parse import unquote_to_bytes

from feedback.records import Message

LONGEST = 1_000
"""Characters of a part that are logged as they are."""

DEEPEST = 64
"""What is nested deeper is not logged in any case (feedback.privacy.redact)."""


def without_data(messages: Sequence[Message]) -> list[Message]:
    """Messages whose big `data:` URLs (and sound) are cut; what a person typed stays, and so do the given messages.

    >>> part = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "QUJD" * 1_000}}
    >>> without_data([{"role": "user", "content": [part]}])[0]["content"][0]["image_url"]["url"]
    'data:image/png;bytes=3000;sha256=1be62b059e8ac368407f102a71e4d7c092f72031720182c09756233cd0006706,'
    """
    return [message_without_data(message) for message in messages]


def message_without_data(message: Message) -> Message:
    """One message, the same object where there is nothing to cut."""
    if len(message) == 2 and type(message.get("content")) is str and type(message.get("role")) is str:
        return message  # by far most
    if all(value is None or isinstance(value, str) for value in message.values()):
        return message
    return {name: value if isinstance(value, str) else _cut(value) for name, value in message.items()}


def _cut(value: Any, depth: int = 0) -> Any:
    if depth > DEEPEST:
        return value
    match value:
        case {"data": str(data), "format": str(kind)} if len(data) > LONGEST:
            return value | {"data": _told(f"audio/{kind}", _bytes(data))}
        case dict():
            return {name: inner if name == "text" else _cut(inner, depth + 1) for name, inner in value.items()}
        case list():
            return [_cut(inner, depth + 1) for inner in value]
        case str() if len(value) > LONGEST and value[:5].lower() == "data:" and "," in value:
            return _url(value)
    return value


def _url(url: str) -> str:
    head, _, data = url[5:].partition(",")
    packed = head[-7:].lower() == ";base64"
    kind = (head[:-7] if packed else head) or "text/plain"
    return _told(kind[:100], _bytes(data) if packed else unquote_to_bytes(data))


def _bytes(data: str) -> bytes:
    """What base64 stands for; the text itself where it is none."""
    try:
        return base64.b64decode(data)
    except (binascii.Error, ValueError):
        return data.encode("utf-8", "surrogatepass")


def _told(kind: str, content: bytes) -> str:
    return f"data:{kind};bytes={len(content)};sha256={hashlib.sha256(content).hexdigest()},"
