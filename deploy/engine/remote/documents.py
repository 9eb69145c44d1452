"""JSON that an engine says: decoded, and never nested deeper than what copies, redacts and reads it later can follow."""

from __future__ import annotations

from typing import Any

import aiohttp
import msgspec

MAX_DEPTH = 200
"""Lists and objects within each other."""

_decode = msgspec.json.Decoder().decode


def decoded(data: bytes) -> Any:
    """The JSON in it. Raises msgspec.DecodeError, UnicodeDecodeError, and RecursionError beyond MAX_DEPTH.

    >>> decoded(b'{"a": [1]}')
    {'a': [1]}
    """
    document = _decode(data)
    if data.count(b"{") + data.count(b"[") > MAX_DEPTH and _is_deep(document):  # with fewer brackets it can't be
        raise RecursionError
    return document


async def at_most(answer: aiohttp.ClientResponse, most_bytes: int) -> bytes | None:
    """All that an answer says, None where it is more."""
    body = bytearray()
    async for piece in answer.content.iter_any():
        body += piece
        if len(body) > most_bytes:
            return None
    return bytes(body)


def _is_deep(document: Any) -> bool:
    level = [document]
    for _ in range(MAX_DEPTH):
        inner = (one.values() if isinstance(one, dict) else one for one in level)
        level = [value for values in inner for value in values if isinstance(value, dict | list)]
        if not level:
            return False
    return True
