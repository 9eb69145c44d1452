"""Where a request comes from: only our own proxies are believed, and only the nearest stranger counts."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.web.addresses import Addresses

PROXIES = ["10.0.0.0/8", "192.168.1.1", "fd00::/8"]


def address(peer: str | None, *headers: tuple[str, str], trusted: list[str] | None = None) -> str:
    raw = [(name.encode(), value.encode("latin-1")) for name, value in headers]
    scope: dict[str, Any] = {"type": "http", "client": (peer, 1) if peer is not None else None, "headers": raw}
    return Addresses(PROXIES if trusted is None else trusted).of(scope)


X, F = "x-forwarded-for", "forwarded"


@pytest.mark.parametrize(
    ("peer", "headers", "found"),
    [
        ("203.0.113.9", [], "203.0.113.9"),
        ("203.0.113.9", [(X, "1.2.3.4")], "203.0.113.9"),  # a stranger may say what they like
        ("10.0.0.1", [(X, "1.2.3.4")], "1.2.3.4"),
        ("10.0.0.1", [(X, "6.6.6.6, 1.2.3.4")], "1.2.3.4"),  # what stood there before the first proxy is not believed
        ("10.0.0.1", [(X, "6.6.6.6, 1.2.3.4, 192.168.1.1,10.9.9.9")], "1.2.3.4"),
        ("10.0.0.1", [(X, "6.6.6.6"), (X, "1.2.3.4")], "1.2.3.4"),
        ("10.0.0.1", [(X, "1.2.3.4:5678")], "1.2.3.4"),
        ("10.0.0.1", [(X, "1.2.3.4, unknown")], "10.0.0.1"),
        ("10.0.0.1", [(X, "")], "10.0.0.1"),
        ("10.0.0.1", [(X, "10.0.0.7")], "10.0.0.7"),  # all are ours: the farthest
        ("10.0.0.1", [(F, "for=1.2.3.4;proto=https;by=10.0.0.1")], "1.2.3.4"),
        ("10.0.0.1", [(F, 'for=6.6.6.6, For="1.2.3.4:80"')], "1.2.3.4"),
        ("10.0.0.1", [(F, 'for="[2001:db8:1:2:3::4]:4711"')], "2001:db8:1:2::/64"),
        ("10.0.0.1", [(F, "for=1.2.3.4, for=_hidden")], "10.0.0.1"),
        ("10.0.0.1", [(F, "for=1.2.3.4, proto=http")], "10.0.0.1"),
        ("10.0.0.1", [(F, "for=6.6.6.6"), (X, "1.2.3.4")], "10.0.0.1"),  # one of them the proxy only passed on
        ("10.0.0.1", [(F, "for=1.2.3.4"), (X, "1.2.3.4")], "1.2.3.4"),
        ("fd00::1", [(X, "2001:db8:1:2:3::4")], "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::9", [], "2001:db8:1:2::/64"),  # who has one has the 64 bits after it
        ("::ffff:203.0.113.9", [], "203.0.113.9"),
        ("::ffff:10.0.0.1", [(X, "1.2.3.4")], "1.2.3.4"),
        (None, [(X, "1.2.3.4")], ""),
        ("testclient", [(X, "1.2.3.4")], "testclient"),
    ],
)
def test_the_nearest_address_that_is_no_proxy_of_ours(peer: str | None, headers: Any, found: str) -> None:
    assert address(peer, *headers) == found


def test_without_trusted_proxies_nobody_is_believed() -> None:
    assert address("127.0.0.1", (X, "1.2.3.4"), (F, "for=1.2.3.4"), trusted=[]) == "127.0.0.1"


HOPS = st.lists(st.sampled_from(["for=", "1.2.3.4", "::1", "[", "]", '"', ",", ";", ":80", "10.0.0.1", " ", "é"]))


@given(HOPS.map("".join), HOPS.map("".join), st.sampled_from(["10.0.0.1", "203.0.113.9", "fd00::1", ""]))
def test_whatever_the_headers_say_there_is_an_answer(one: str, two: str, peer: str) -> None:
    assert isinstance(address(peer, (X, one), (F, two)), str)
