"""Pictures, sound and files within messages, as they are logged: what they were, not what they held.

What base64 stands for is hashed; data that is written in any other way is hashed as it stands.
"""

from __future__ import annotations

import asyncio
import binascii
import hashlib
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from feedback.records import Message

LONGEST = 1_000
"""Characters of a part that are logged as they are."""

AT_ONCE = 30_000
"""Bytes of messages that are looked through in the loop; more are in a thread, which lets go of the interpreter in between."""

DEEPEST = 64
"""What is nested deeper is not logged in any case (feedback.privacy.redact)."""

_TEXTS = frozenset({str, type(None)})
_PIECE = 65_536
_NOT_BASE64 = bytes(
    byte for byte in range(256) if not (chr(byte).isascii() and chr(byte).isalnum()) and byte not in b"+/="
)


async def logged(messages: Sequence[Message]) -> list[Message]:
    """`without_data`, for a loop that has others to serve."""
    if all(map(_plain, messages)):
        return list(messages)
    if len(msgspec.json.encode(messages)) <= AT_ONCE:
        return without_data(messages)
    return await asyncio.to_thread(without_data, messages)


def without_data(messages: Sequence[Message]) -> list[Message]:
    """Messages whose big `data:` URLs (and sound) are cut; what a person typed stays, and so do the given messages.

    >>> part = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "QUJD" * 1_000}}
    >>> without_data([{"role": "user", "content": [part]}])[0]["content"][0]["image_url"]["url"]
    'data:image/png;bytes=3000;sha256=1be62b059e8ac368407f102a71e4d7c092f72031720182c09756233cd0006706,'
    """
    return [message_without_data(message) for message in messages]


def message_without_data(message: Message) -> Message:
    """One message, the same object where there is nothing to cut."""
    if _plain(message):
        return message
    return {name: value if isinstance(value, str) else _cut(value) for name, value in message.items()}


def _plain(message: Message) -> bool:
    """By far most messages are."""
    return _TEXTS.issuperset(map(type, message.values()))


def _cut(value: Any, depth: int = 0) -> Any:
    if depth > DEEPEST:
        return value
    match value:
        case {"data": str(data), "format": str(kind)} if len(data) > LONGEST:
            return value | {"data": _told(f"audio/{kind}", data, base64=True)}
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
    return _told(kind[:100], data, base64=packed)


def _told(kind: str, data: str, *, base64: bool) -> str:
    try:
        size, digest = _hashed(_decoded(data) if base64 else _encoded(data))
    except binascii.Error:
        size, digest = _hashed(_encoded(data))
    return f"data:{kind};bytes={size};sha256={digest},"


def _hashed(pieces: Iterator[bytes]) -> tuple[int, str]:
    size, content = 0, hashlib.sha256()
    for piece in pieces:
        size += len(piece)
        content.update(piece)
    return size, content.hexdigest()


def _encoded(data: str) -> Iterator[bytes]:
    for at in range(0, len(data), _PIECE):
        yield data[at : at + _PIECE].encode("utf-8", "surrogatepass")


def _decoded(data: str) -> Iterator[bytes]:
    """What base64 stands for. Raises binascii.Error where it is none."""
    left = b""
    for piece in _encoded(data):
        left += piece.translate(None, _NOT_BASE64)  # line breaks and the like, as every decoder leaves them out
        whole = len(left) // 4 * 4
        yield binascii.a2b_base64(left[:whole])
        left = left[whole:]
    yield binascii.a2b_base64(left)
