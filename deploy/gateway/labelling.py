"""`GET /v1/label/next` and `POST /v1/label`: people compare two replies blindly, in an app of your own.

A key with the scope `label` is one person: its name is who labels, as in `trimtab label --as`. One that is bound to a tenant sees
that tenant's pairs only. What is asked is kept for this person for ten minutes; what was said stays.
"""

from __future__ import annotations

import dataclasses
import secrets
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TypeVar, get_args

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from deploy.control.labelling import Labelling
from deploy.decisions.operations import MAX_REASON, one_line
from deploy.gateway.breaker import Away
from deploy.gateway.control_link import ControlLink
from deploy.gateway.feedback import MAX_BYTES
from deploy.rules.labelling import Answer, Progress, Question, told
from deploy.settings import Settings
from deploy.web.bodies import read_object
from deploy.web.callers import Caller, Callers
from deploy.web.errors import ApiError, bad
from feedback.clock import Clock

T = TypeVar("T")
NOBODY = "loopback"
"""Who labels on this machine without a key."""

RETRY_S = 5
FRESH = {"cache-control": "no-store"}


def label_router(settings: Settings, control: ControlLink, callers: Callers, clock: Clock) -> APIRouter:
    """The router."""
    router, limit = APIRouter(), min(settings.gateway.max_request_bytes, MAX_BYTES)

    async def told_by(ask: Callable[[Labelling], T]) -> T:
        try:
            return await control.aside(lambda control: ask(control.labelling))
        except Away as error:
            raise ApiError(503, "not_ready", str(error), retry_after_s=RETRY_S) from None

    @router.get("/v1/label/next")
    async def ask(request: Request) -> Response:
        caller = await _labeller(request, callers)
        draw = secrets.SystemRandom().random()
        pair, progress = await told_by(partial(_next, _name(caller), _tenant(caller), clock.now_us(), draw))
        return JSONResponse(told(pair, progress), headers=FRESH) if pair is not None else Response(None, 204, FRESH)

    @router.post("/v1/label")
    async def answer(request: Request) -> dict[str, Any]:
        caller = await _labeller(request, callers)
        pair_id, said, reason = label_of(await read_object(request, limit))
        store = partial(_answer, pair_id, _name(caller), _tenant(caller), said, clock.now_us(), reason)
        return {"id": pair_id, "answer": said, "progress": dataclasses.asdict(await told_by(store))}

    return router


def label_of(body: Mapping[str, Any]) -> tuple[str, Answer, str]:
    """The pair's id, the answer and the reason of a label's body. Raises ApiError."""
    for name in body:
        if name not in ("id", "answer", "reason"):
            shown = name[:60].encode("ascii", "replace").decode()
            raise bad(f"there is no field {shown!r}", shown, "unknown_field")
    for name in ("id", "answer"):
        if name not in body:
            raise bad(f"{name} is missing", name, "missing_field")
    for name, value in body.items():
        if not isinstance(value, str) and (name, value) != ("reason", None):
            raise bad(f"{name} must be a string", name, "invalid_type")
    if body["answer"] not in get_args(Answer):
        raise bad(f"answer must be one of {', '.join(get_args(Answer))}", "answer")
    reason = body.get("reason") or ""
    if len(reason) > MAX_REASON:
        raise bad(f"reason must have at most {MAX_REASON:,} characters", "reason")
    return body["id"], body["answer"], one_line(reason)


async def _labeller(request: Request, callers: Callers) -> Caller:
    caller = await callers.caller(request, "label")
    callers.count(request, caller)
    return caller


def _name(caller: Caller) -> str:
    return caller.key.name if caller.key is not None else NOBODY


def _tenant(caller: Caller) -> str | None:
    return caller.tenant if caller.bound else None


def _next(
    labeller: str, tenant: str | None, now_us: int, draw: float, labelling: Labelling
) -> tuple[Question | None, Progress]:
    return labelling.next(labeller, tenant, now_us, draw), labelling.progress(labeller, tenant, now_us)


def _answer(
    pair_id: str, labeller: str, tenant: str | None, said: Answer, now_us: int, reason: str, labelling: Labelling
) -> Progress:
    labelling.answer(pair_id, labeller, tenant, said, now_us, reason)
    return labelling.progress(labeller, tenant, now_us)
