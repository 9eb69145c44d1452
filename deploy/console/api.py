"""`/admin/v1`: the same operations as the command line, over HTTP. Every rule is in `operations`; here is who may ask.

With keys required, a bearer key needs the scope `read` to look, `operate` to act and `approve` to approve or reject.
Without, only requests that name this machine's loopback address are answered, and none that a web page of somebody
else's sent.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Coroutine
from typing import Any, Literal
from urllib.parse import urlsplit

from fastapi import APIRouter, Depends, HTTPException, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from pydantic import BaseModel, ConfigDict, Field, create_model

from deploy.control.records import UnknownCandidate
from deploy.decisions.commands import EXPECT_HELP, ROLLOUT_COMMANDS, RolloutCommand
from deploy.decisions.looking import PAGE
from deploy.decisions.operations import Operations
from deploy.errors import Failed, Refused
from feedback.clock import Clock

LOOPBACK = ("127.0.0.1", "localhost", "::1")


class Because(BaseModel):
    """Why: a sentence for whoever reads the history later."""

    model_config = ConfigDict(extra="forbid")
    reason: str = Field("", max_length=2_000)


class Step(Because):
    """A command for the rollout."""

    expect: str | None = Field(None, max_length=64, description=EXPECT_HELP)


class Approval(BaseModel):
    """A yes to the evidence of the seal that `evidence` names."""

    model_config = ConfigDict(extra="forbid")
    evidence: str
    reason: str = Field(max_length=2_000)
    override_hold: bool = False


def admin_router(rules: Operations, clock: Clock, *, require_keys: bool) -> APIRouter:
    """The router; its errors have OpenAI's shape."""
    router = APIRouter(prefix="/admin/v1", route_class=OpenAIErrors, tags=["candidates and rollout"])
    allowed = functools.partial(_allowed, rules, clock, require_keys)
    read, operate, approve = (Depends(allowed(scope)) for scope in ("read", "operate", "approve"))

    @router.get("/candidates", dependencies=[read])
    def list_candidates(
        limit: int = Query(PAGE, ge=1, le=1_000), after: str | None = Query(None, max_length=64)
    ) -> list[dict[str, Any]]:
        """A page of the candidates, newest first, as they were last sealed; `after`: those after this one."""
        return rules.candidates(limit, after)

    @router.get("/candidates/{digest}", dependencies=[read])
    def show_candidate(digest: str) -> dict[str, Any]:
        """One candidate with its report, approvals and history; a unique prefix of the digest is enough."""
        return rules.show(digest)

    @router.get("/rollout", dependencies=[read])
    def show_rollout() -> dict[str, Any]:
        """What is served now, and the rollout under way."""
        return rules.serving()

    @router.get("/history", dependencies=[read])
    def show_history(
        limit: int = Query(PAGE, ge=1, le=1_000), subject: str | None = None, before: int | None = None
    ) -> list[dict[str, Any]]:
        """Who did what, when and why, newest first; `subject` is a whole digest, the id of a key, or training-N."""
        return rules.history(limit, subject, before)

    @router.get("/shares", dependencies=[read])
    def show_shares(limit: int = Query(PAGE, ge=1, le=1_000)) -> list[dict[str, Any]]:
        """Who served what share from when to when, newest first."""
        return rules.periods(limit)

    @router.post("/candidates/{digest}/approve")
    def approve_candidate(digest: str, body: Approval, actor: str = approve) -> dict[str, Any]:
        """Start the candidate's rollout."""
        return rules.approve(
            digest, evidence=body.evidence, reason=body.reason, actor=actor, override_hold=body.override_hold
        )

    @router.post("/candidates/{digest}/reject")
    def reject_candidate(digest: str, body: Because, actor: str = approve) -> dict[str, Any]:
        """Say no for good."""
        return rules.reject(digest, reason=body.reason, actor=actor)

    @router.post("/trainings/{name}/{answer}")
    def answer_training(
        name: str, answer: Literal["approve", "reject"], body: Because, actor: str = approve
    ) -> dict[str, Any]:
        """Say yes or no to `training-7`, where trainings need a yes."""
        said: Literal["approved", "rejected"] = "approved" if answer == "approve" else "rejected"
        request = rules.answer_training(name, said, reason=body.reason, actor=actor)
        return {"training": request.name, "answer": said}

    for name, command in ROLLOUT_COMMANDS.items():
        router.post(f"/{name}", name=name, description=command.help)(_acting(rules, name, command, operate))
    return router


def _acting(rules: Operations, name: str, command: RolloutCommand, operate: Any) -> Callable[..., dict[str, Any]]:
    flags: dict[str, Any] = {flag: (bool, Field(False, description=text)) for flag, text in command.flags.items()}
    asked = create_model(f"{name.capitalize()}Body", __base__=Step, **flags)

    def act(body: Step, actor: str = operate) -> dict[str, Any]:
        return command.run(rules, actor=actor, **body.model_dump())

    # FastAPI reads annotations from the function; ours are strings of this module, and `act` has nothing else to find
    act.__annotations__ = {"body": asked, "actor": str, "return": dict[str, Any]}
    return act


def _allowed(rules: Operations, clock: Clock, require_keys: bool, scope: str) -> Callable[[Request], str]:
    """A dependency that answers who asks (for the history), or refuses."""

    def who(request: Request) -> str:
        authorization = request.headers.get("authorization", "")
        if not authorization and not require_keys:
            _from_this_machine(request)
            return "loopback"
        token = authorization.removeprefix("Bearer ").strip()
        key = rules.control.key(token, clock.now_us()) if authorization.startswith("Bearer ") else None
        if key is None:
            raise HTTPException(401, "a valid bearer key is needed: `trimtab keys create` makes one")
        if not key.allows(scope):
            raise HTTPException(403, f"the key {key.name!r} lacks the scope {scope}")
        return f"key {key.name} ({key.id})"

    return who


def _from_this_machine(request: Request) -> None:
    """Without keys, neither a rebound host name nor another site's page may ask (the caller is bound to loopback)."""
    host = urlsplit(f"//{request.headers.get('host', '')}")
    if host.hostname not in LOOPBACK:
        raise HTTPException(403, "without keys only this machine may ask, by 127.0.0.1 or localhost")
    origin = request.headers.get("origin")
    if origin is not None and urlsplit(origin).netloc != host.netloc:
        raise HTTPException(403, "another site's page may not ask")


class OpenAIErrors(APIRoute):
    """A route whose errors are `{"error": {"type", "code", "message", "param"}}`."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def handler(request: Request) -> Response:
            try:
                return await handle(request)
            except RequestValidationError as error:
                first = error.errors()[0]
                param = ".".join(str(part) for part in first["loc"][1:]) or None
                return _error(400, "invalid_request_error", "invalid_value", str(first["msg"]), param)
            except HTTPException as error:
                code, kind = _CODES.get(error.status_code, ("invalid_request", "invalid_request_error"))
                return _error(error.status_code, kind, code, str(error.detail))
            except Refused as error:
                return _error(409, "invalid_request_error", "refused", str(error))
            except UnknownCandidate as error:
                return _error(404, "invalid_request_error", "not_found", str(error))
            except Failed as error:
                return _error(503, "server_error", "failed", str(error))

        return handler


_CODES = {401: ("invalid_api_key", "authentication_error"), 403: ("insufficient_scope", "permission_error")}


def _error(status: int, kind: str, code: str, message: str, param: str | None = None) -> JSONResponse:
    headers = {"www-authenticate": "Bearer"} if status == 401 else {}
    error = {"type": kind, "code": code, "message": message, "param": param}
    return JSONResponse({"error": error}, status_code=status, headers=headers)
