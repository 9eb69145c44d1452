"""`/admin/v1`: the same operations as the command line, over HTTP. Every rule is in `operations`; here is who may ask.

A bearer key needs the scope `read` to look, `operate` to act and `approve` to approve or reject, and must be bound to no tenant:
all of it is about the whole deployment. Who asks, what a body may
hold and how errors look is what both ports share: deploy.web.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Literal, TypeVar

from fastapi import APIRouter, Depends, Query, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model

from deploy.console.port import MAX_BODY_BYTES
from deploy.decisions.commands import EXPECT_HELP, ROLLOUT_COMMANDS, RolloutCommand
from deploy.decisions.looking import PAGE
from deploy.decisions.operations import Operations
from deploy.web.bodies import read_object
from deploy.web.callers import Callers, StoredKeys
from deploy.web.errors import bad
from feedback.clock import Clock

Body = TypeVar("Body", bound=BaseModel)


class Because(BaseModel):
    """Why: a sentence for whoever reads the history later."""

    model_config = ConfigDict(extra="forbid")
    reason: str = Field("", max_length=2_000)


class Step(Because):
    """A command for the rollout."""

    expect: str | None = Field(None, max_length=64, description=EXPECT_HELP)


class Objecting(Because):
    """A no until it is withdrawn."""

    withdraw: bool = False


class Approval(BaseModel):
    """A yes to the evidence of the seal that `evidence` names."""

    model_config = ConfigDict(extra="forbid")
    evidence: str
    reason: str = Field(max_length=2_000)
    override_hold: bool = False


def admin_router(rules: Operations, clock: Clock, *, require_keys: bool, trust_loopback: bool = False) -> APIRouter:
    """The router."""
    router = APIRouter(prefix="/admin/v1", tags=["candidates and rollout"])
    callers = Callers(StoredKeys(rules.control), clock, require_keys=require_keys, trust_loopback=trust_loopback)
    read, operate, approve = (Depends(_actor(callers, scope)) for scope in ("read", "operate", "approve"))
    _looking(router, rules, read)
    _deciding(router, rules, approve)
    for name, command in ROLLOUT_COMMANDS.items():
        asked = _asked(name, command)
        route = router.post(f"/{name}", name=name, description=command.help, openapi_extra=_documented(asked))
        route(_acting(rules, command, _body(asked, operate), operate))
    return router


def _looking(router: APIRouter, rules: Operations, read: Any) -> None:
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


def _deciding(router: APIRouter, rules: Operations, approve: Any) -> None:
    evidence, why, objection = (_body(model, approve) for model in (Approval, Because, Objecting))

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

    @router.post("/candidates/{digest}/object", openapi_extra=_documented(Objecting))
    def object_to_candidate(digest: str, body: Objecting = objection, actor: str = approve) -> dict[str, Any]:
        """Block its approval and further shares until this is withdrawn."""
        return rules.object(digest, reason=body.reason, actor=actor, withdraw=body.withdraw)

    @router.post("/trainings/{name}/{answer}", openapi_extra=_documented(Because))
    def answer_training(
        name: str, answer: Literal["approve", "reject"], body: Because = why, actor: str = approve
    ) -> dict[str, Any]:
        """Say yes or no to `training-7`, where trainings need a yes."""
        said: Literal["approved", "rejected"] = "approved" if answer == "approve" else "rejected"
        request = rules.answer_training(name, said, reason=body.reason, actor=actor)
        return {"training": request.name, "answer": said}


def _asked(name: str, command: RolloutCommand) -> type[Step]:
    """The body of a rollout command: its flags besides what every command takes."""
    flags: dict[str, Any] = {flag: (bool, Field(False, description=text)) for flag, text in command.flags.items()}
    return create_model(f"{name.capitalize()}Body", __base__=Step, **flags)


def _acting(rules: Operations, command: RolloutCommand, asked: Any, operate: Any) -> Callable[..., dict[str, Any]]:
    def act(body: Step = asked, actor: str = operate) -> dict[str, Any]:
        return command.run(rules, actor=actor, **body.model_dump())

    return act


def _actor(callers: Callers, scope: str) -> Callable[[Request], Awaitable[str]]:
    """A dependency that answers who asks (for the history), or refuses."""

    async def who(request: Request) -> str:
        caller = await callers.caller(request, scope)
        caller.need_unbound()
        return caller.actor

    return who


def _body(model: type[Body], allowed: Any) -> Any:
    """A dependency that reads the body, once `allowed` let its sender in."""

    async def read(request: Request, _actor: str = allowed) -> Body:
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            raise bad("say content-type: application/json")  # a form, which any page may send, can't
        document = await read_object(request, MAX_BODY_BYTES)
        try:
            return model.model_validate(document)
        except ValidationError as error:
            raise RequestValidationError([{**one, "loc": ("body", *one["loc"])} for one in error.errors()]) from None

    return Depends(read)


def _documented(model: type[BaseModel]) -> dict[str, Any]:
    """What the OpenAPI document says of a body that we read ourselves."""
    content = {"application/json": {"schema": model.model_json_schema()}}
    return {"requestBody": {"required": True, "content": content}}
