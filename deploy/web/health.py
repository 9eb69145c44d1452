"""`/healthz` (this process answers) and `/readyz` (it can do its work), on both ports.

Ready is said per duty, as `/readyz?duty=chat`: events may be taken where no chat can be answered. A load balancer asks for the
duty that it sends; without one the answer is 200 only where all is ready, here and in the other roles that this address
speaks for.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from deploy.web.errors import bad
from feedback.masking import masked

Ready = Callable[[], str | None]
"""None when it can do its work, else one sentence on what it waits for."""

Others = Callable[[], Awaitable[Mapping[str, str | None]]]
"""The same of other roles, by name."""

BOTH = ["GET", "HEAD"]


async def alone() -> dict[str, str | None]:
    """The other roles of a process that speaks for itself."""
    return {}


@dataclass(frozen=True)
class Health:
    """What a port says of its process: as a whole, of each of its duties, and of other roles by name."""

    ready: Ready
    duties: Mapping[str, Ready] = field(default_factory=dict)
    others: Others = alone


def health_router(health: Health, *, say_why: bool) -> APIRouter:
    """The router; `say_why`: with the sentences, which are for those who run the service and not for strangers."""
    router = APIRouter()

    @router.api_route("/healthz", methods=BOTH, include_in_schema=False)
    async def healthz() -> dict[str, str]:
        return {"status": "ok"}

    @router.api_route("/readyz", methods=BOTH, include_in_schema=False)
    async def readyz(request: Request) -> JSONResponse:
        duty = request.query_params.get("duty")
        if duty is not None and duty not in health.duties:
            known = ", ".join(health.duties) or "none"
            raise bad(f"there is no such duty here; there are: {known}", "duty")
        return await _whole(health, say_why) if duty is None else _answer(health.duties[duty](), say_why)

    return router


async def _whole(health: Health, say_why: bool) -> JSONResponse:
    roles = dict(await health.others())
    late = [name for name, waiting in roles.items() if waiting is not None]
    waiting = health.ready() or (f"not ready: {', '.join(late)}" if late else None)
    more = {}
    if health.duties:
        more["duties"] = {name: _said(ready(), say_why) for name, ready in health.duties.items()}
    if roles:
        more["roles"] = {name: _said(waiting, say_why) for name, waiting in roles.items()}
    return _answer(waiting, say_why, **more)


def _answer(waiting: str | None, say_why: bool, **more: Any) -> JSONResponse:
    if waiting is None:
        return JSONResponse({"status": "ready", **more})
    why = {"reason": masked(waiting)} if say_why else {}
    return JSONResponse({"status": "not ready", **why, **more}, 503)


def _said(waiting: str | None, say_why: bool) -> str:
    return "ready" if waiting is None else masked(waiting) if say_why else "not ready"
