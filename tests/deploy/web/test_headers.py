"""Headers out of a request's scope."""

from __future__ import annotations

from starlette.datastructures import Headers

from deploy.web.headers import header


def test_a_header_is_what_it_is_elsewhere() -> None:
    raw = [(b"host", b"a"), (b"x-name", "Zoë".encode("latin-1")), (b"host", b"b")]
    for name in ("host", "x-name", "origin"):
        assert header({"headers": raw}, name.encode()) == Headers(raw=raw).get(name)
