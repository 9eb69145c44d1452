"""Where a request comes from: the nearest address on its way that is no proxy of ours; and whether that is this machine."""

from __future__ import annotations

import re
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network

from starlette.datastructures import Headers
from starlette.types import Scope

Address = IPv4Address | IPv6Address
_FOR = re.compile(r'(?:^|[;,\s])for="?(\[[^\]]*\]|[^;,:"\s]*)', re.IGNORECASE)
_PORT = re.compile(r"^\[(.*)\](?::\d+)?$|^([^:]*):\d+$")

_FORWARDED = re.compile(
    rb"forwarded|via|x-forwarded(-.*)?|x-real-ip|x-client-ip|x-cluster-client-ip|true-client-ip|cf-connecting-ip|"
    rb"x-envoy-external-address|x-original-(for|host|forwarded-for)"
)
"""Headers that proxies add: RFC 7239, RFC 9110, and what was there before and beside them."""


def from_this_machine(scope: Scope) -> bool:
    """Whether somebody on this machine asks, and no proxy on it for somebody else."""
    client = scope.get("client")
    peer = _address(client[0]) if client else None
    if peer is None or not peer.is_loopback:
        return False
    return not any(_FORWARDED.fullmatch(name.lower()) for name, _ in scope["headers"])


class Addresses:
    """Knows the proxies: `trusted` are addresses and networks, as in `gateway.trusted_proxies`."""

    def __init__(self, trusted: Sequence[str] = ()) -> None:
        self._trusted = [ip_network(network) for network in trusted]

    def of(self, scope: Scope) -> str:
        """The address of whoever asks, of IPv6 its /64; empty where the server does not tell.

        What a proxy of ours forwards for is believed, from the right, up to the first that is none. What can't be read
        ends the search, and so do two headers that disagree: a proxy writes one of them and passes the other one on.
        """
        client = scope.get("client")
        peer = _address(client[0]) if client else None
        if peer is None:
            return str(client[0]) if client else ""
        if self._trusts(peer):
            headers = Headers(scope=scope)
            ways = [_x_forwarded(headers), _forwarded(headers)]
            found = {self._nearest(peer, way) for way in ways if way}
            peer = found.pop() if len(found) == 1 else peer
        return str(IPv6Network((peer, 64), strict=False)) if isinstance(peer, IPv6Address) else str(peer)

    def _trusts(self, address: Address) -> bool:
        return any(address in network for network in self._trusted)

    def _nearest(self, peer: Address, way: Sequence[str]) -> Address:
        for hop in reversed(way):
            address = _address(hop)
            if address is None:
                return peer
            peer = address
            if not self._trusts(address):
                return peer
        return peer


def _x_forwarded(headers: Headers) -> list[str]:
    return [hop.strip() for line in headers.getlist("x-forwarded-for") for hop in line.split(",")]


def _forwarded(headers: Headers) -> list[str]:
    """RFC 7239; a hop without `for` is one that can't be read."""
    hops = [element for line in headers.getlist("forwarded") for element in line.split(",")]
    return [match[1] if (match := _FOR.search(hop)) else "" for hop in hops]


def _address(text: str) -> Address | None:
    match = _PORT.match(text)
    try:
        address = ip_address((match[1] or match[2]) if match else text)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address
