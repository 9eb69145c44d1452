"""A body that is too large is refused before its sender is asked anything, and while it comes; none of it is kept."""

from __future__ import annotations

import pytest
from starlette.types import Message, Scope

from deploy.web.bounded import Bounded
from deploy.web.errors import ApiError
from deploy.web.serving import Limits
from tests.deploy.web.ports import Client, opened

LIMIT = 1_000


def asked_for(**headers: str) -> Scope:
    return {
        "type": "http",
        "headers": [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()],
    }


@pytest.mark.parametrize("length", [str(LIMIT + 1), "9" * 30, "9" * 5_000])
async def test_what_announces_too_much_is_refused_before_the_app_is_asked(length: str) -> None:
    async def app(*_: object) -> None:
        raise AssertionError("it was asked")

    async def receive() -> Message:
        raise AssertionError("the body was read")

    with pytest.raises(ApiError, match="more than 1000 bytes") as raised:
        await Bounded(app, LIMIT)(asked_for(content_length=length), receive, receive)  # type: ignore[arg-type]
    assert (raised.value.status, raised.value.code) == (413, "request_too_large")


async def test_what_announces_nothing_is_counted_as_it_comes() -> None:
    pieces, taken = iter(range(1_000_000)), 0

    async def receive() -> Message:
        next(pieces)
        return {"type": "http.request", "body": b"x" * 300, "more_body": True}

    async def app(scope: Scope, receive: object, send: object) -> None:
        nonlocal taken
        while True:
            taken += len((await receive())["body"])  # type: ignore[operator]

    with pytest.raises(ApiError):
        await Bounded(app, LIMIT)(asked_for(transfer_encoding="chunked"), receive, receive)  # type: ignore[arg-type]
    assert (taken, next(pieces)) == (900, 4)


async def test_as_many_bytes_as_the_limit_are_taken() -> None:
    for headers in (f"content-length: {LIMIT}", "transfer-encoding: chunked"):
        async with opened(Limits(body_bytes=LIMIT)) as port:
            client = await port.open()
            body = b"x" * LIMIT if "length" in headers else b"3e8\r\n" + b"x" * LIMIT + b"\r\n0\r\n\r\n"
            client.send(f"POST / HTTP/1.1\r\nhost: localhost\r\n{headers}\r\n\r\n".encode() + body)
            assert (await client.answer())[0] == 200
            client.close()


async def test_every_port_refuses_more_before_it_asks_its_app() -> None:
    async with opened(Limits(body_bytes=LIMIT)) as port:
        client = await port.open()
        client.send(b"POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1000000000\r\n\r\n")
        assert (await told(client), port.asked) == (413, 0)
        client.close()


async def told(client: Client) -> int:
    return (await client.answer())[0]


async def test_every_port_refuses_more_while_it_comes() -> None:
    async with opened(Limits(body_bytes=LIMIT)) as port:
        client = await port.open()
        client.send(b"POST / HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n")
        for _ in range(5):
            client.send(b"12c\r\n" + b"x" * 300 + b"\r\n")
        assert await told(client) == 413
        assert port.taken <= LIMIT
        client.close()
