"""Request bodies: never more than allowed, and JSON that is safe to keep; what is wrong is said precisely."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec
from fastapi import Request
from starlette.requests import ClientDisconnect

from deploy.web.errors import ApiError, bad
from deploy.web.headers import header

MAX_DEPTH = 64
MAX_NODES = 100_000
"""Values and names in a body. Each is an object of Python's: a megabyte of empty lists becomes fifty, and is walked."""
Body = bytes | bytearray
_SURROGATE = re.compile("[\ud800-\udfff]")
_NUL = b"\\u0000"
_DIGITS_TO_0 = bytes.maketrans(b"123456789", b"0" * 9)
_LONG_NUMBER = b"0" * 19
_BEFORE_A_NODE = b"[{,:"
_SLICE_BYTES = 65_536
_EXPLAINED_BYTES = 65_536


async def read_body(request: Request, limit: int) -> bytearray:
    """All of the body. Raises ApiError: 413 as soon as it is known to be larger than `limit` bytes, 415 when encoded."""
    if (header(request.scope, b"content-encoding") or "identity") != "identity":
        raise ApiError(415, "unsupported_encoding", "send the body without content-encoding")
    announced = header(request.scope, b"content-length") or "0"
    if announced.isdecimal() and int(announced[:20]) > limit:
        raise _too_large(limit)
    body = bytearray()  # grows as it comes: copying ten megabytes at the end would hold up everybody
    more = True
    while more:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        body += message.get("body", b"")
        if len(body) > limit:
            raise _too_large(limit)
        more = message.get("more_body", False)
    return body


def json_object(raw: Body, what: str = "body") -> dict[str, Any]:
    """The JSON object in `raw`: valid UTF-8, at most 64 deep, no NUL, no lone surrogate, no huge number; else a 400.

    Of more than MAX_NODES values nothing is decoded. `what` is what the message calls it.
    """
    if crowded(raw):
        raise bad(f"the {what} holds more than {MAX_NODES} values", code="too_many_values")
    try:
        document = msgspec.json.decode(raw)
    except RecursionError:
        raise bad(f"the {what} is nested more than {MAX_DEPTH} deep", code="too_deep") from None
    except UnicodeDecodeError as error:
        raise bad(f"the {what} is no UTF-8 at byte {error.start}", code="bad_utf8") from None
    except (msgspec.DecodeError, ValueError) as error:
        raise bad(_why_not_json(raw, error, what), code="invalid_json") from None
    if not isinstance(document, dict):
        raise bad(f"the {what} must be a JSON object", code="invalid_type")
    if not harmless(raw):
        _check(document, what)
    return document


def harmless(raw: Body) -> bool:
    """Whether valid JSON can't hold what `json_object` refuses, as its bytes tell at a glance; nearly all of it can't."""
    return (
        raw.count(b"{") + raw.count(b"[") < MAX_DEPTH
        and _NUL not in raw
        and not any(_LONG_NUMBER in piece.translate(_DIGITS_TO_0) for piece in _slices(raw, len(_LONG_NUMBER) - 1))
    )


def crowded(raw: Body) -> bool:
    """Whether JSON may hold more than MAX_NODES values and names: told from its bytes, in a time that is bounded."""
    if len(raw) <= MAX_NODES:  # each has at least a byte
        return False
    if not _nodes_exceed(_slices(raw)):
        return False
    return _nodes_exceed(_outside_texts(raw[: 10 * MAX_NODES])) or _nodes_exceed(_outside_texts(raw))


def _slices(raw: Body, overlap: int = 0) -> Iterator[Body]:
    """Pieces that fit a processor's cache; each goes on so many bytes into the next one."""
    return (raw[at : at + _SLICE_BYTES + overlap] for at in range(0, len(raw), _SLICE_BYTES))


def _nodes_exceed(pieces: Iterable[Body]) -> bool:
    nodes = 1
    for piece in pieces:
        nodes += len(piece) - len(piece.translate(None, _BEFORE_A_NODE))
        if nodes > MAX_NODES:
            return True
    return False


def _outside_texts(raw: Body) -> Iterator[Body]:
    """What stands between the strings of JSON; all the rest of it, strings too, after as many as there may be."""
    pieces = raw.replace(b"\\\\", b"").replace(b'\\"', b"").split(b'"', 2 * MAX_NODES + 1)
    if len(pieces) > 2 * MAX_NODES + 1:
        yield b"," * MAX_NODES
    yield from pieces[::2]


def _check(document: dict[str, Any], what: str) -> None:
    level: list[tuple[str | None, Any]] = [(None, document)]
    for _ in range(MAX_DEPTH):
        inner: list[tuple[str | None, Any]] = []
        for param, value in level:
            if isinstance(value, dict):
                inner += ((param or key, item) for key, item in value.items())
                inner += ((param, key) for key in value)
            elif isinstance(value, list):
                inner += ((param, item) for item in value)
            elif isinstance(value, str) and "\x00" in value:
                raise bad(f"the {what} holds a NUL character", param)
            elif isinstance(value, int) and not -(2**63) <= value < 2**64:
                raise bad(f"the {what} holds a whole number of more than 64 bits", param)
        if not inner:
            return
        level = inner
    raise bad(f"the {what} is nested more than {MAX_DEPTH} deep", code="too_deep")


def _why_not_json(raw: Body, error: Exception, what: str) -> str:
    if len(raw) > _EXPLAINED_BYTES:
        return f"the {what} can't be read: {error}"
    try:
        text = json.dumps(json.loads(raw), ensure_ascii=False)
    except (ValueError, RecursionError):
        return f"the {what} is not valid JSON: {error}"
    return (
        f"the {what} holds half of a surrogate pair"
        if _SURROGATE.search(text)
        else f"the {what} can't be read: {error}"
    )


def _too_large(limit: int) -> ApiError:
    return ApiError(413, "request_too_large", f"the body has more than {limit} bytes")
