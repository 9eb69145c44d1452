"""A port on loopback answers to this machine's names, whatever else leads there; nothing is looked at before."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.types import Receive, Scope, Send

from deploy.web.errors import ApiError
from deploy.web.hosts import Hosts, host_of
from tests.deploy.web.ports import opened


async def comes_through(host: bytes | None, bound: str = "127.0.0.1", names: tuple[str, ...] = ()) -> bool:
    """Whether a request with this Host header does."""
    asked = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        asked.append(scope)

    async def nothing(*_: object) -> None:  # type: ignore[misc]
        raise AssertionError("nothing is read, and nothing said")

    headers = [(b"host", host)] if host is not None else []
    try:
        await Hosts(app, bound, names)({"type": "http", "headers": headers}, nothing, nothing)
    except ApiError as error:
        refusal = (error.status, error.code)
    else:
        return bool(asked)
    assert (refusal, asked) == ((403, "forbidden"), [])
    return False


OURS = [b"127.0.0.1", b"127.0.0.1:8400", b"localhost", b"LOCALHOST:1", b"[::1]", b"[::1]:8400", b"127.8.8.8:8400", None]
OTHERS = [
    b"evil.example", b"evil.example:8401", b"127.0.0.1.evil.example", b"localhost.evil.example", b"127.0.0.1@evil.example",
    b"localhost:8400@evil.example", b"", b"[::1", b"localhost/x", b"localhost:x", b"0.0.0.0", b"10.0.0.7", b"192.168.0.1:8400",
]  # fmt: skip


@pytest.mark.parametrize("bound", ["127.0.0.1", "::1", "127.8.8.8"])
@pytest.mark.parametrize(("host", "through"), [*((one, True) for one in OURS), *((one, False) for one in OTHERS)])
async def test_a_port_on_loopback_answers_to_this_machines_names_alone(
    bound: str, host: bytes | None, through: bool
) -> None:
    assert await comes_through(host, bound) is through


@pytest.mark.parametrize("bound", ["127.0.0.1", "0.0.0.0", "::", "10.0.0.7"])
async def test_it_answers_to_the_names_that_are_configured_too(bound: str) -> None:
    names = ("trimtab.example", "bot.local")
    for ours in (b"trimtab.example", b"TRIMTAB.example:443", b"bot.local:8400", b"localhost"):
        assert await comes_through(ours, bound, names)
    assert not await comes_through(b"evil.example", bound, names)
    assert not await comes_through(b"trimtab.example.evil.example", bound, names)


async def test_a_port_that_others_reach_answers_to_every_name_until_some_are_configured_and_to_probes_then() -> None:
    for bound in ("0.0.0.0", "::", "10.0.0.7"):
        assert await comes_through(b"anything.example", bound)
        assert not await comes_through(b"anything.example", bound, ("trimtab.example",))
        assert await comes_through(b"10.0.0.7:8401", bound, ("trimtab.example",)), "a probe asks by address"


@given(st.binary(max_size=30))
async def test_whatever_stands_there_it_is_let_through_or_refused(host: bytes) -> None:
    named = host_of(str(host, "latin-1"))
    assert await comes_through(host) in (True, False)
    assert named is None or "@" not in named


@pytest.mark.parametrize("path", ["/", "/metrics", "/healthz", "/docs", "/openapi.json", "/nothing"])
async def test_every_port_is_served_so(path: str) -> None:
    async with opened() as port:
        rebound = await port.open()
        rebound.send(f"GET {path} HTTP/1.1\r\nhost: evil.example\r\n\r\n".encode())
        status, _, body = await rebound.answer()
        assert (status, b"access.host_names" in body, port.asked) == (403, True, 0)
        rebound.send(f"GET {path} HTTP/1.1\r\nhost: 127.0.0.1:{port.number}\r\n\r\n".encode())
        assert (await rebound.answer())[0] == 200
        rebound.close()
