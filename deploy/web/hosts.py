"""Under which names a port may be asked for.

A page of somebody else's can have its own name lead to 127.0.0.1 (DNS rebinding): the browser then sends it here, as if it were
ours. What tells is the Host header. So a port that only this machine reaches answers to this machine's names, and to those that
are configured; nothing else is looked at before.
"""

from __future__ import annotations

from collections.abc import Collection
from functools import lru_cache
from ipaddress import ip_address
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Receive, Scope, Send

from deploy.web.errors import ApiError
from deploy.web.headers import header
from deploy.web.loopback import is_loopback

WRONG = "this port is not asked for by that name: say 127.0.0.1 or localhost, or list the name in access.host_names"


class Hosts:
    """An ASGI app around another on a port that listens on `bound`; `names` are the configured ones, in small letters."""

    def __init__(self, app: ASGIApp, bound: str, names: Collection[str]) -> None:
        self._app, self._names = app, frozenset(names)
        self._alone = is_loopback(bound)
        self._any = not names and not self._alone

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not self._any and not self._ours(header(scope, b"host")):
            raise ApiError(403, "forbidden", WRONG)
        await self._app(scope, receive, send)

    def _ours(self, host: str | None) -> bool:
        """Whether a Host header names us. A browser always sends one, so that whoever sends none is no page."""
        if host is None:
            return True
        named = host_of(host)
        if named is None:
            return False
        if named in self._names or named == "localhost" or is_loopback(named):
            return True
        return not self._alone and _is_address(named)  # probes ask by address, which nobody can lead elsewhere


@lru_cache(64)  # each may be as long as a header
def host_of(header: str) -> str | None:
    """The host that a Host header names, in small letters and without its port; None where it can't be read."""
    try:
        parts = urlsplit(f"//{header}")
        named = parts.hostname
        _ = parts.port
    except ValueError:
        return None
    return named if named and parts.netloc == header and "@" not in header else None


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True
