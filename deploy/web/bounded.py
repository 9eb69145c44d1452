"""No body is larger than its port takes: that is told before anything is asked of whoever sends it, and while it comes.

What a body announces is looked at before its sender is. One that announces nothing is counted as it is read, whoever reads it.
"""

from __future__ import annotations

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from deploy.web.errors import ApiError
from deploy.web.headers import header
from deploy.web.pace import kept_waiting


class Bounded:
    """An ASGI app around another, for bodies of at most `limit` bytes. Raises ApiError, a 413."""

    def __init__(self, app: ASGIApp, limit: int) -> None:
        self._app, self._limit = app, limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            if announced(scope) > self._limit:
                await kept_waiting(scope)
                raise too_large(self._limit)
            if header(scope, b"transfer-encoding") is not None:
                receive = _counted(receive, self._limit)
        await self._app(scope, receive, send)


def _counted(receive: Receive, limit: int) -> Receive:
    come = 0

    async def counted() -> Message:
        nonlocal come
        message = await receive()
        come += len(message.get("body", b""))
        if come > limit:
            raise too_large(limit)
        return message

    return counted


def announced(scope: Scope) -> int:
    """How many bytes the header says will come; 0 where it does not."""
    length = header(scope, b"content-length") or ""
    return int(length[:20]) if length.isdecimal() else 0


def too_large(limit: int) -> ApiError:
    """What a larger body is told."""
    return ApiError(413, "request_too_large", f"the body has more than {limit} bytes")
