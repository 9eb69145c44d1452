"""`POST /v1/feedback`: one rating of one reply. A sealed turn id is permission enough; anything else needs a key.

Whoever holds only the turn id speaks as its conversation's anonymous user: it can't name a user, nor claim to be an
expert or a system, and its Idempotency-Key counts for that turn alone. A body is small, and whether its turn id is ours is asked
before anything is done with its texts. A `comment` beside the `value` is a second rating, stored with the first or not at all.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, get_args

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from msgspec.structs import replace

from deploy.gateway import metrics
from deploy.gateway.choices import picked, rated_turn
from deploy.gateway.event_log import EventLog
from deploy.gateway.identity import checked_id
from deploy.gateway.live_turn import not_logged
from deploy.gateway.redaction import Redaction
from deploy.gateway.redaction_processes import Unredactable
from deploy.gateway.turn_ids import TurnIds
from deploy.serving_settings import GatewaySettings
from deploy.web.bodies import read_object
from deploy.web.callers import Caller, Callers
from deploy.web.errors import ApiError, bad
from deploy.web.pace import Pace
from feedback.clock import Clock
from feedback.intake import contract
from feedback.intake.contract import Rejected
from feedback.intake.edge import Record
from feedback.records import Rating, RatingKind

IDEMPOTENCY_HEADER = "Idempotency-Key"
_FIELDS = {"turn_id", "kind", "value", "conversation_id", "event_id", "occurred_at", "source", "user_id", "rubric"}
_FIELDS |= {"locale", "tags", "choice", "comment"}
MAX_BYTES = 64_000
LONG, LONG_REST_S = 1_000, 0.015
"""Feedback whose texts have more than LONG characters is taken one after another, in LONG_REST_S each: to redact it may be some
milliseconds' work."""

_NEEDS_SCOPE = {"expert": "label", "system": "ingest"}
_KINDS = frozenset(get_args(RatingKind))


@dataclass(frozen=True)
class _Subject:
    """What is rated; `proven` when its turn id says so itself."""

    tenant: str
    conversation_id: str
    turn_id: str | None
    proven: bool


def feedback_router(
    settings: GatewaySettings,
    callers: Callers,
    events: EventLog,
    redaction: Redaction,
    turn_ids: TurnIds,
    clock: Clock,
) -> APIRouter:
    """The router."""
    router, pace = APIRouter(), Pace(clock)
    limit = min(settings.max_request_bytes, MAX_BYTES)

    @router.post("/v1/feedback", status_code=202)
    async def give(request: Request) -> JSONResponse:
        kind = "unknown"
        try:
            caller = await callers.known(request)
            if caller is not None and not caller.allows("label"):
                caller.need("feedback")
            body = await read_object(request, limit)
            callers.count(request, caller, checked_id(body.get("user_id"), "user_id"))
            kind = body["kind"] if isinstance(body.get("kind"), str) and body["kind"] in _KINDS else kind
            now_us = clock.now_us()
            documents = rating_events(body, caller, turn_ids, request.headers.get(IDEMPOTENCY_HEADER), now_us)
            ratings = [_rating(document, now_us) for document in documents]
            length = sum(len(rating.value) for rating in ratings if isinstance(rating.value, str))
            if length > LONG:
                await clock.sleep(pace.rest_s(LONG_REST_S))
            if not await events.send([await _record(rating, redaction) for rating in ratings]):
                raise not_logged()
        except ApiError as error:
            metrics.FEEDBACK.labels(kind=kind, outcome="failed" if error.status >= 500 else "refused").inc()
            raise
        for rating in ratings:
            metrics.FEEDBACK.labels(kind=rating.kind, outcome="accepted").inc()
        return JSONResponse({"status": "accepted", "event_id": ratings[0].event_id}, 202)

    return router


def _rating(document: dict[str, Any], now_us: int) -> Rating:
    event = contract.parse_object(document, now_us)
    if isinstance(event, Rejected):
        raise bad(event.message, event.field or None, event.code)
    assert isinstance(event, Rating)
    # only a key with the scope label makes an expert's
    return replace(event, origin="label" if event.source == "expert" else "feedback")


async def _record(rating: Rating, redaction: Redaction) -> Record:
    try:
        return redaction.edge.signed(await redaction.event(rating))
    except Unredactable as why:
        message = (
            f"personal data could not be taken out of this text ({why}): shorten it, and leave out long rows of numbers"
        )
        raise ApiError(422, "unredactable", message, "value") from None


def rating_events(
    body: Mapping[str, Any], caller: Caller | None, turn_ids: TurnIds, idempotency_key: str | None, now_us: int
) -> list[dict[str, Any]]:
    """The events of a feedback request: its `rating_event`, and one for a `comment` beside the value. Raises ApiError."""
    rating = rating_event(body, caller, turn_ids, idempotency_key, now_us)
    comment = body.get("comment")
    if comment is None or comment == "":
        return [rating]
    if rating["kind"] == "comment":
        raise bad("the comment is the value of this rating: a second one has no place", "comment")
    if not isinstance(comment, str):
        raise bad("comment must be a string", "comment", "invalid_type")
    # from the first one's id, so that what is sent again is the same two events
    event_id = f"fc-{hashlib.sha256(rating['event_id'].encode()).hexdigest()[:32]}"
    beside = {"event_id": event_id, "kind": "comment", "value": comment}
    return [rating, {name: value for name, value in rating.items() if name != "rubric"} | beside]


def rating_event(
    body: Mapping[str, Any], caller: Caller | None, turn_ids: TurnIds, idempotency_key: str | None, now_us: int
) -> dict[str, Any]:
    """The `rating` event of a feedback request, with its defaults filled in; what is left to check, the contract does.

    `caller` None: nobody but whoever holds the turn id. Raises ApiError.
    """
    subject = _subject(body, caller, turn_ids)
    for name in body:
        if name not in _FIELDS:
            shown = name[:60].encode("ascii", "replace").decode()
            raise bad(f"there is no field {shown!r}", shown, "unknown_field")
    for name in ("kind", "value"):
        if name not in body:
            raise bad(f"{name} is missing", name, "missing_field")
    user_id = checked_id(body.get("user_id"), "user_id")
    if user_id is not None and caller is None:
        raise ApiError(403, "key_needed", "naming a user needs a key", "user_id")
    given = checked_id(body.get("event_id"), "event_id") or checked_id(idempotency_key, IDEMPOTENCY_HEADER)
    event = {
        "event": "rating",
        "event_id": _event_id(given, subject, caller),
        "tenant": subject.tenant,
        "conversation_id": subject.conversation_id,
        "turn_id": subject.turn_id,
        "occurred_at": body.get("occurred_at") if body.get("occurred_at") is not None else now_us / 1_000_000,
        "source": _source(body.get("source"), caller),
        "kind": body["kind"],
        "user_id": user_id,
        **{name: body.get(name) for name in ("rubric", "locale", "tags")},
    }
    value = picked(body["value"], subject.turn_id, turn_ids) if body["kind"] == "pick" else body["value"]
    return {name: said for name, said in event.items() if said is not None} | {"value": value}


def _subject(body: Mapping[str, Any], caller: Caller | None, turn_ids: TurnIds) -> _Subject:
    turn_id, sealed = rated_turn(body, turn_ids)
    named = checked_id(body.get("conversation_id"), "conversation_id")
    if sealed is not None and turn_id is not None:
        if caller is not None and caller.bound and caller.tenant != sealed.tenant:
            raise ApiError(403, "wrong_tenant", "this turn belongs to another tenant than the key", "turn_id")
        if named not in (None, sealed.conversation_id):
            raise bad("this turn belongs to another conversation", "conversation_id")
        return _Subject(sealed.tenant, sealed.conversation_id, turn_id, True)
    if caller is None:
        raise ApiError(401, "invalid_api_key", "without a key, turn_id must be one that this service sealed", "turn_id")
    if named is None:
        raise bad("conversation_id is missing: this turn id does not tell it", "conversation_id", "missing_field")
    return _Subject(caller.tenant, named, turn_id, False)


def _source(asked: Any, caller: Caller | None) -> str:
    """`user`, unless a key with scope `label` makes it `expert`; what is asked for must be allowed."""
    if asked is None:
        return "expert" if caller is not None and caller.key is not None and caller.allows("label") else "user"
    if asked == "judge":
        raise bad("the judge's verdicts come from within: source is user, expert or system", "source")
    if not isinstance(asked, str) or asked not in ("user", *_NEEDS_SCOPE):
        raise bad("source must be user, expert or system", "source")
    scope = _NEEDS_SCOPE.get(asked)
    if scope is not None and (caller is None or not caller.allows(scope)):
        raise ApiError(403, "insufficient_scope", f"source {asked} needs a key with the scope {scope}", "source")
    return asked


def _event_id(given: str | None, subject: _Subject, caller: Caller | None) -> str:
    if given is None:
        return f"fb-{secrets.token_hex(12)}"
    if caller is not None:
        return given
    # a stranger must not be able to collide with the ids of other people's events
    return f"fb-{hashlib.sha256(f'{subject.turn_id} {given}'.encode()).hexdigest()[:32]}"
