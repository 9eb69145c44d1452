"""Bodies: JSON objects that may be kept, and never one that would cost much to decode."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from deploy.web import bodies
from deploy.web.bodies import json_object, read_body, read_object
from deploy.web.errors import ApiError, bad
from deploy.web.pace import LATE_S, Late
from deploy.web.requests import Requests
from tests.deploy.web.test_json_shape import ANYTHING, depth, unkept
from tests.fakes import ManualClock, until


@settings(max_examples=100)
@given(ANYTHING, st.sampled_from([1, 2, 60, 62, 63, 64, 65]), st.booleans(), st.booleans())
def test_an_object_is_taken_as_it_is_or_refused(value: Any, deeper: int, lists: bool, ascii_only: bool) -> None:
    for _ in range(deeper - 1):
        value = [value] if lists else {"a": value}
    document = {"a": value}
    raw = json.dumps(document, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
    if depth(document) > 64 or unkept(document):
        with pytest.raises(ApiError):
            json_object(raw)
    else:
        assert json_object(raw) == document


@pytest.mark.parametrize("body", [bytes, bytearray])
def test_a_byte_order_mark_before_a_body_is_nothing(body: type) -> None:
    assert json_object(body(b'\xef\xbb\xbf{"a": "\xef\xbb\xbf"}')) == {"a": "\ufeff"}
    assert len(json_object(body(b'\xef\xbb\xbf{"a": "' + b"x" * 20_000 + b'"}'))["a"]) == 20_000
    with pytest.raises(ApiError):
        json_object(body(b"\xef\xbb\xbf"))


@pytest.mark.parametrize(
    ("raw", "param"),
    [
        (rb'{"a":1,"b":{"c":["\u0000"]}}', "b"),
        (b'{"a":1,"b":[18446744073709551616]}', "b"),
        (rb'{"a":"\u0000","b":[' + b"1," * 2_000 + b"1]}", None),
    ],
)
def test_who_sent_what_can_not_be_kept_is_told_where_it_is_unless_that_is_much_work(
    raw: bytes, param: str | None
) -> None:
    with pytest.raises(ApiError) as refused:
        json_object(raw)
    assert (refused.value.status, refused.value.param) == (400, param)


def request_of(pieces: list[bytes], **headers: str) -> tuple[Request, list[bytes]]:
    """A request whose body comes in pieces; those that were not read yet are in the list."""
    left = list(pieces)

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": left.pop(0), "more_body": bool(left)}

    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    return Request({"type": "http", "headers": raw}, receive), left


async def test_an_object_is_read_in_pieces() -> None:
    request, _ = request_of([b'{"a":"\\', b'"[[["', b"}"])
    assert await read_object(request, 100) == {"a": '"[[['}


@pytest.mark.parametrize(
    "piece",
    [
        b"[" * 20_000,
        b"[]," * 20_000,
        b'{"a":' * 9_000,
        b'"",' * 20_000,
        b'"' * 60_000,
        b"1" * 60_000,
        b'"\\u0000",' * 9_000,
    ],
    ids=["brackets", "lists", "objects", "texts", "quotes", "digits", "NULs"],
)
async def test_of_what_would_cost_much_to_decode_nothing_is_and_the_rest_is_not_waited_for(
    piece: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bodies.msgspec.json, "decode", lambda _: pytest.fail("it was decoded"))
    request, left = request_of([b'{"a":[', *[piece] * 150])
    with pytest.raises(ApiError) as refused:
        await read_object(request, 10_000_000)
    assert refused.value.status == 400
    assert len(left) > 130


async def test_too_many_bytes_are_refused_as_they_come() -> None:
    request, left = request_of([b'{"a":"', *[b"x" * 60] * 10])
    with pytest.raises(ApiError) as refused:
        await read_object(request, 100)
    assert (refused.value.status, len(left)) == (413, 8)


@pytest.mark.parametrize("raw", [b'{"a":' + b"[" * 70, b"x" * 101, b"no JSON", b"[]", b"\n" * 3], ids=str)
@pytest.mark.parametrize("whole", [True, False])
async def test_who_sent_a_body_that_is_refused_is_told_so_late_and_the_body_is_not_kept(
    raw: bytes, whole: bool
) -> None:
    def look(piece: bytes) -> None:
        raise bad("too many lines")

    clock, told = ManualClock(), list[ApiError]()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        with pytest.raises(ApiError) as refused:
            await (read_object(Request(scope, receive), 100) if whole else read_body(Request(scope, receive), 10, look))
        told.append(refused.value)

    request, _ = request_of([raw])
    answering = asyncio.create_task(Requests(app, Late(clock))({**request.scope, "path": "/"}, request.receive, print))
    await until(lambda: clock.waiting == 1, "the answer to be kept back")
    await clock.advance(LATE_S / 2)
    assert not told
    await clock.advance(LATE_S / 2)
    await answering
    assert told[0].__context__ is None
