"""Request bodies: never more than allowed, and JSON that is safe to keep; what is wrong is said precisely, and not at once:
who hears so at once can send the next one a thousand times a second."""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import msgspec
from fastapi import Request
from starlette.requests import ClientDisconnect

from deploy.web.bounded import announced, too_large
from deploy.web.errors import ApiError, bad
from deploy.web.headers import header
from deploy.web.json_shape import MAX_DEPTH, SMALL_BYTES, Shape, harmless
from deploy.web.pace import kept_waiting
from feedback.intake.decoding import BOM

Body = bytes | bytearray
T = TypeVar("T")
_SURROGATE = re.compile("[\ud800-\udfff]")
_EXPLAINED_BYTES = 65_536
_EXPLAINED_NODES = 1_000


async def read_object(request: Request, limit: int) -> dict[str, Any]:
    """The JSON object that is the body, looked at as it comes. Raises what `read_body` and `json_object` raise."""
    return await _or_refused_late(request, _read_object(request, limit))


async def read_body(request: Request, limit: int, look: Callable[[bytes], None] | None = None) -> bytearray:
    """All of the body. Raises ApiError: 413 as soon as it is known to be larger than `limit` bytes, 415 when encoded.

    `look` sees each piece as it comes; what it raises ends the reading.
    """
    return await _or_refused_late(request, _read_body(request, limit, look))


async def _or_refused_late(request: Request, reading: Awaitable[T]) -> T:
    """What is read, or its refusal, late, and without the calls that it went through: they would keep the body meanwhile."""
    try:
        return await reading
    except ApiError as error:
        refused = error
        refused.__traceback__ = refused.__context__ = None
    await kept_waiting(request.scope)
    raise refused


async def _read_object(request: Request, limit: int) -> dict[str, Any]:
    if 0 < announced(request.scope) <= SMALL_BYTES:
        return json_object(await _read_body(request, limit))
    shape = Shape("body")
    raw = await _read_body(request, limit, shape.add)
    shape.end()
    return _object(raw, shape, "body")


async def _read_body(request: Request, limit: int, look: Callable[[bytes], None] | None = None) -> bytearray:
    if (header(request.scope, b"content-encoding") or "identity") != "identity":
        raise ApiError(415, "unsupported_encoding", "send the body without content-encoding")
    if announced(request.scope) > limit:
        raise too_large(limit)
    body = bytearray()  # grows as it comes: copying ten megabytes at the end would hold up everybody
    more = True
    while more:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        chunk = message.get("body", b"")
        body += chunk
        if len(body) > limit:
            raise too_large(limit)
        if look is not None:
            look(chunk)
        more = message.get("more_body", False)
    return body


def json_object(raw: Body, what: str = "body") -> dict[str, Any]:
    """The JSON object in `raw`: valid UTF-8, at most 64 deep, no NUL, no lone surrogate, no huge number; else a 400.

    Of more than MAX_NODES values nothing is decoded. `what` is what the message calls it.
    """
    shape = Shape(what)
    if not harmless(raw):
        shape.add(raw)
        shape.end()
    return _object(raw, shape, what)


def _object(raw: Body, shape: Shape, what: str) -> dict[str, Any]:
    try:
        document = msgspec.json.decode(memoryview(raw)[len(BOM) :] if raw.startswith(BOM) else raw)
    except RecursionError:
        raise bad(f"the {what} is nested more than {MAX_DEPTH} deep", code="too_deep") from None
    except UnicodeDecodeError as error:
        raise bad(f"the {what} is no UTF-8 at byte {error.start}", code="bad_utf8") from None
    except (msgspec.DecodeError, ValueError) as error:
        raise bad(_why_not_json(raw, error, what), code="invalid_json") from None
    if not isinstance(document, dict):
        raise bad(f"the {what} must be a JSON object", code="invalid_type")
    if shape.unkept is not None:
        raise bad(f"the {what} {shape.unkept}", unkept_in(document) if shape.nodes <= _EXPLAINED_NODES else None)
    return document


def unkept_in(document: dict[str, Any]) -> str | None:
    """The first field that holds what makes a document `unkept` (see Shape)."""
    return next((name for name, value in document.items() if not _kept(name) or not _kept(value)), None)


def _kept(value: Any) -> bool:
    match value:
        case str():
            return "\x00" not in value
        case int():
            return -(2**63) <= value < 2**64
        case list():
            return all(map(_kept, value))
        case dict():
            return all(map(_kept, value)) and all(map(_kept, value.values()))
    return True


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
