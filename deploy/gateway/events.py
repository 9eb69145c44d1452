"""`POST /v1/events`: turns and ratings of other programs in bulk, one JSON object a line.

Answers `{accepted, duplicates, rejected: [{line, reason}]}`; sending the same body again is harmless. The tenant is the
key's. A `rollout` stamp is dropped: only this gateway's own turns are evidence for a rollout. What no body may hold (a NUL
character, nesting without end) no line may either, and a line that can't be redacted in time is not taken. It may take a
while: whoever sends in bulk gives way to whoever chats.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import msgspec
from fastapi import APIRouter, Request

from deploy.gateway.event_log import EventLog
from deploy.gateway.live_turn import not_logged
from deploy.gateway.redaction import Redaction
from deploy.gateway.redaction_processes import Unredactable
from deploy.serving_settings import GatewaySettings
from deploy.web.bodies import read_body, unkept_in
from deploy.web.callers import Caller, Callers
from deploy.web.errors import ApiError
from deploy.web.json_shape import Shape
from feedback.clock import Clock
from feedback.intake import contract
from feedback.intake.contract import Rejected
from feedback.intake.edge import Record
from feedback.records import Rating, Turn

MAX_LINES = 50_000
SLICE_S = 0.002
"""So long is read at once; then as long is left to others, the engine's thread among them."""


@dataclass
class Account:
    """What became of the lines of one body; blank lines are nothing."""

    records: list[Record] = field(default_factory=list)
    duplicates: int = 0
    rejected: list[dict[str, Any]] = field(default_factory=list)


def events_router(
    settings: GatewaySettings, callers: Callers, events: EventLog, redaction: Redaction, clock: Clock
) -> APIRouter:
    """The router."""
    router = APIRouter()

    @router.post("/v1/events")
    async def take(request: Request) -> dict[str, Any]:
        caller = await callers.caller(request, "ingest")
        callers.count(request, caller)
        raw = bytes(await read_body(request, settings.max_request_bytes))
        if raw.count(b"\n") >= MAX_LINES:
            raise ApiError(413, "too_many_lines", f"more than {MAX_LINES} lines: send them in several requests")
        account = await read_events(raw, caller, redaction, clock)
        if account.records and not await events.send(account.records):
            raise not_logged()
        return {
            "accepted": len(account.records),
            "duplicates": account.duplicates,
            "rejected": account.rejected,
        }

    return router


async def read_events(raw: bytes, caller: Caller, redaction: Redaction, clock: Clock) -> Account:
    """The records of a body of lines. An event id that stands there twice counts once, as the first says."""
    account, seen = Account(), set[str]()
    now_us, began_s = clock.now_us(), clock.monotonic_s()
    for number, line in enumerate(raw.split(b"\n"), 1):
        if not line.strip():
            continue
        event = _event(line.strip(), caller, now_us)
        if isinstance(event, Rejected):
            account.rejected.append({"line": number, "reason": event.message})
        elif event.event_id in seen:
            account.duplicates += 1
        else:
            try:
                account.records.append(redaction.edge.signed(await redaction.event(event)))
                seen.add(event.event_id)
            except Unredactable as why:
                account.rejected.append({"line": number, "reason": f"it can't be redacted: {why}"})
        if clock.monotonic_s() - began_s > SLICE_S:
            await clock.sleep(SLICE_S)
            began_s = clock.monotonic_s()
    return account


def _event(line: bytes, caller: Caller, now_us: int) -> Turn | Rating | Rejected:
    """The event of one line."""
    shape = Shape("line")
    try:
        shape.add(line)
        shape.end()
    except ApiError as error:
        return Rejected("bad_value", "", error.message)
    event = contract.parse_sent(line, now_us, caller.tenant)
    if isinstance(event, Rejected):
        return event
    if shape.unkept is not None:
        return Rejected("bad_value", unkept_in(msgspec.json.decode(line)) or "", f"the line {shape.unkept}")
    if isinstance(event, Rating) and event.source == "expert" and not caller.allows("label"):
        return Rejected("bad_value", "source", "source expert needs a key with the scope label")
    return event
