"""`POST /v1/events`: turns and ratings of other programs in bulk, one JSON object a line.

Answers `{accepted, duplicates, rejected: [{line, reason}]}`; sending the same body again is harmless. The tenant is the
key's. A `rollout` stamp is dropped: only this gateway's own turns are evidence for a rollout. What no body may hold (a NUL
character, nesting without end) no line may either, and a line that can't be redacted in time is not taken. It may take a
while: whoever sends in bulk gives way to whoever chats.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

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
from deploy.web.pace import Pace
from feedback.clock import Clock
from feedback.intake import contract
from feedback.intake.contract import Rejected
from feedback.intake.decoding import BOM, load
from feedback.intake.edge import Record
from feedback.records import Rating, Turn

MAX_LINES = 50_000
SLICE_S, PAUSE_S = 0.002, 0.006
"""So long is read at once; then so long is left to others, the engine's thread among them, by all who send events together."""
RUN = 500
"""Records that are made durable at once: the turns of others wait for no more of them."""


class Log(Protocol):
    """`deploy.gateway.event_log.EventLog`, as far as it is needed here."""

    async def send(self, records: Sequence[Record]) -> bool: ...


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
    router, pace = APIRouter(), Pace(clock)

    @router.post("/v1/events")
    async def take(request: Request) -> dict[str, Any]:
        caller = await callers.caller(request, "ingest")
        callers.count(request, caller)
        raw = await read_body(request, settings.max_request_bytes, few_lines())
        account = await read_events(raw, caller, redaction, clock, pace)
        if not await send_in_runs(events, account.records):
            raise not_logged()
        return {
            "accepted": len(account.records),
            "duplicates": account.duplicates,
            "rejected": account.rejected,
        }

    return router


def few_lines() -> Callable[[bytes], None]:
    """Counts the lines of a body as it comes. Raises ApiError."""
    lines = 0

    def look(piece: bytes) -> None:
        nonlocal lines
        lines += piece.count(b"\n")
        if lines >= MAX_LINES:
            raise ApiError(413, "too_many_lines", f"more than {MAX_LINES} lines: send them in several requests")

    return look


async def send_in_runs(events: Log, records: Sequence[Record]) -> bool:
    """Whether all are durable. Where not some may be: who sends them all again does no harm."""
    for at in range(0, len(records), RUN):
        if not await events.send(records[at : at + RUN]):
            return False
    return True


async def read_events(
    raw: bytes | bytearray, caller: Caller, redaction: Redaction, clock: Clock, pace: Pace
) -> Account:
    """The records of a body of lines. An event id that stands there twice counts once, as the first says."""
    account, seen = Account(), set[str]()
    now_us, began_s = clock.now_us(), clock.monotonic_s()
    for number, line in enumerate(_lines(raw), 1):
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
            await clock.sleep(pace.rest_s(PAUSE_S))
            began_s = clock.monotonic_s()
    return account


def _lines(raw: bytes | bytearray) -> Iterator[bytes]:
    """One by one: all fifty thousand at once would take a while."""
    begin = len(BOM) if raw.startswith(BOM) else 0
    while (end := raw.find(b"\n", begin)) >= 0:
        yield bytes(raw[begin:end])
        begin = end + 1
    yield bytes(raw[begin:])


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
        return Rejected("bad_value", unkept_in(load(line)[0]) or "", f"the line {shape.unkept}")
    if isinstance(event, Rating) and event.source == "expert" and not caller.allows("label"):
        return Rejected("bad_value", "source", "source expert needs a key with the scope label")
    return event
