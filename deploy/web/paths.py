"""What there is on a port, for whoever asked for something else."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.routing import Match


def astray(request: Request, error: HTTPException) -> tuple[str, dict[str, str]]:
    """What to say, and in which headers, to whoever asks for a path that is not there, or not with this method.

    An error about something else keeps its words.
    """
    routes = list(routes_of(request.app.routes))
    if error.status_code == 404 and "endpoint" not in request.scope:
        there = ", ".join(f"{'|'.join(sorted(route.methods))} {route.path}" for route in routes)
        return f"there is no path {request.url.path[:100]!a} here; there are: {there}", {}
    if error.status_code == 405:
        here = [route for route in routes if route.matches(request.scope)[0] != Match.NONE]
        methods = sorted({method for route in here for method in route.methods})
        return f"this path takes {' or '.join(methods)}, not {request.method}", {"allow": ", ".join(methods)}
    return str(error.detail), dict(error.headers or {})


def routes_of(routes: Iterable[Any]) -> Iterator[Any]:
    """Every route with its path and methods, also those of routers that were included."""
    for route in routes:
        if getattr(route, "methods", None):
            yield route
        elif (router := getattr(route, "original_router", None)) is not None:
            yield from routes_of(router.routes)
