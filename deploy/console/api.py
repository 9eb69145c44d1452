"""`/admin/v1`: the same operations as the command line, over HTTP. Every rule is in `operations`; here is who may ask.

A bearer key needs the scope `read` to look, `operate` to act and `approve` to approve or reject. Who asks, what a body may
hold and how errors look is what both ports share: deploy.web.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Literal, TypeVar

from fastapi import APIRouter, Depends, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from deploy.decisions.operations import Operations
from deploy.web.bodies import json_object, read_body
from deploy.web.callers import Callers
from deploy.web.errors import bad
from feedback.clock import Clock

MAX_BODY_BYTES = 100_000
Body = TypeVar("Body", bound=BaseModel)


class Because(BaseModel):
    """Why: a sentence for whoever reads the history later."""

    model_config = ConfigDict(extra="forbid")
    reason: str = Field("", max_length=2_000)


class Approval(BaseModel):
    """A yes to the evidence of the seal that `evidence` names."""

    model_config = ConfigDict(extra="forbid")
    evidence: str
    reason: str = Field(max_length=2_000)
    override_hold: bool = False


def admin_router(rules: Operations, clock: Clock, *, require_keys: bool) -> APIRouter:
    """The router."""
    router = APIRouter(prefix="/admin/v1", tags=["candidates and rollout"])
    callers = Callers(rules.control, clock, require_keys=require_keys)
    read, operate, approve = (Depends(_actor(callers, scope)) for scope in ("read", "operate", "approve"))
    evidence, why, acting = _body(Approval, approve), _body(Because, approve), _body(Because, operate)

    @router.get("/candidates", dependencies=[read])
    def list_candidates() -> list[dict[str, Any]]:
        """Every candidate, newest first."""
        return rules.candidates()

    @router.get("/candidates/{digest}", dependencies=[read])
    def show_candidate(digest: str) -> dict[str, Any]:
        """One candidate with its report, approvals and history; a unique prefix of the digest is enough."""
        return rules.show(digest)

    @router.get("/rollout", dependencies=[read])
    def show_rollout() -> dict[str, Any]:
        """What is served now, and the rollout under way."""
        return rules.serving()

    @router.post("/candidates/{digest}/approve", openapi_extra=_documented(Approval))
    def approve_candidate(digest: str, body: Approval = evidence, actor: str = approve) -> dict[str, Any]:
        """Start the candidate's rollout."""
        return rules.approve(
            digest, evidence=body.evidence, reason=body.reason, actor=actor, override_hold=body.override_hold
        )

    @router.post("/candidates/{digest}/reject", openapi_extra=_documented(Because))
    def reject_candidate(digest: str, body: Because = why, actor: str = approve) -> dict[str, Any]:
        """Say no for good."""
        return rules.reject(digest, reason=body.reason, actor=actor)

    @router.post("/trainings/{name}/{answer}", openapi_extra=_documented(Because))
    def answer_training(
        name: str, answer: Literal["approve", "reject"], body: Because = why, actor: str = approve
    ) -> dict[str, Any]:
        """Say yes or no to `training-7`, where trainings need a yes."""
        said: Literal["approved", "rejected"] = "approved" if answer == "approve" else "rejected"
        request = rules.answer_training(name, said, reason=body.reason, actor=actor)
        return {"training": request.name, "answer": said}

    commands = {
        "promote": rules.promote,
        "pause": rules.pause,
        "resume": rules.resume,
        "rollback": rules.rollback,
        "halt": rules.halt,
    }
    for name, command in commands.items():
        route = router.post(f"/{name}", name=name, description=command.__doc__, openapi_extra=_documented(Because))
        route(_acting(command, acting, operate))
    return router


def _acting(command: Callable[..., dict[str, Any]], acting: Any, operate: Any) -> Callable[..., dict[str, Any]]:
    def act(body: Because = acting, actor: str = operate) -> dict[str, Any]:
        return command(actor=actor, reason=body.reason)

    return act


def _actor(callers: Callers, scope: str) -> Callable[[Request], Awaitable[str]]:
    """A dependency that answers who asks (for the history), or refuses."""

    async def who(request: Request) -> str:
        return (await callers.caller(request, scope)).actor

    return who


def _body(model: type[Body], allowed: Any) -> Any:
    """A dependency that reads the body, once `allowed` let its sender in."""

    async def read(request: Request, _actor: str = allowed) -> Body:
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            raise bad("say content-type: application/json")  # a form, which any page may send, can't
        document = json_object(await read_body(request, MAX_BODY_BYTES))
        try:
            return model.model_validate(document)
        except ValidationError as error:
            raise RequestValidationError([{**one, "loc": ("body", *one["loc"])} for one in error.errors()]) from None

    return Depends(read)


def _documented(model: type[BaseModel]) -> dict[str, Any]:
    """What the OpenAPI document says of a body that we read ourselves."""
    content = {"application/json": {"schema": model.model_json_schema()}}
    return {"requestBody": {"required": True, "content": content}}
