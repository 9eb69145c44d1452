"""`POST /v1/events`: turns and ratings of other programs in bulk, one JSON object a line.

Answers `{accepted, duplicates, rejected: [{line, reason}]}`; sending the same body again is harmless. The tenant is the
key's. A `rollout` stamp is dropped: only this gateway's own turns are evidence for a rollout. What no body may hold (a NUL
character, nesting without end) no line may either.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

from fastapi import APIRouter, Request

from deploy.gateway.event_log import EventLog
from deploy.gateway.live_turn import not_logged
from deploy.settings import GatewaySettings
from deploy.web.bodies import harmless, json_object, read_body
from deploy.web.callers import Caller, Callers
from deploy.web.errors import ApiError
from feedback.clock import Clock
from feedback.intake import contract
from feedback.intake.contract import Rejected
from feedback.intake.edge import Edge, Record
from feedback.records import Rating

MAX_LINES = 50_000


@dataclass
class Account:
    """What became of the lines of one body; blank lines are nothing."""

    records: list[Record] = field(default_factory=list)
    duplicates: int = 0
    rejected: list[dict[str, Any]] = field(default_factory=list)


def events_router(settings: GatewaySettings, callers: Callers, events: EventLog, clock: Clock) -> APIRouter:
    """The router."""
    router = APIRouter()

    @router.post("/v1/events")
    async def take(request: Request) -> dict[str, Any]:
        caller = await callers.caller(request, "ingest")
        callers.count(request, caller)
        raw = await read_body(request, settings.max_request_bytes)
        if raw.count(b"\n") >= MAX_LINES:
            raise ApiError(413, "too_many_lines", f"more than {MAX_LINES} lines: send them in several requests")
        account = await asyncio.to_thread(read_events, raw, caller, events.edge, clock.now_us())
        if account.records and not await events.send(account.records):
            raise not_logged()
        return {
            "accepted": len(account.records),
            "duplicates": account.duplicates,
            "rejected": account.rejected,
        }

    return router


def read_events(raw: bytes, caller: Caller, edge: Edge, now_us: int) -> Account:
    """The records of a body of lines. An event id that stands there twice counts once, as the first says."""
    account, seen = Account(), set[str]()
    for number, line in enumerate(raw.split(b"\n"), 1):
        if not line.strip():
            continue
        made = _record(line.strip(), caller, edge, now_us)
        if isinstance(made, Rejected):
            account.rejected.append({"line": number, "reason": made.message})
        elif made[0] in seen:
            account.duplicates += 1
        else:
            seen.add(made[0])
            account.records.append(made[1])
    return account


def _record(line: bytes, caller: Caller, edge: Edge, now_us: int) -> tuple[str, Record] | Rejected:
    """Event id and record of one line."""
    event = contract.parse_sent(line, now_us, caller.tenant)
    if isinstance(event, Rejected):
        return event
    if not harmless(line):
        try:
            json_object(line, "line")
        except ApiError as error:
            return Rejected("bad_value", error.param or "", error.message)
    if isinstance(event, Rating) and event.source == "expert" and not caller.allows("label"):
        return Rejected("bad_value", "source", "source expert needs a key with the scope label")
    return event.event_id, edge.signed(edge.redacted(event))
