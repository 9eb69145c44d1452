"""Events in bulk."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deploy.control.store import Control
from deploy.gateway.events import MAX_LINES, PAUSE_S, RUN, SLICE_S, Account, few_lines, read_events, send_in_runs
from deploy.gateway.redaction import Redaction
from deploy.web.bodies import read_body
from deploy.web.callers import Caller
from deploy.web.errors import ApiError
from deploy.web.json_shape import Shape
from deploy.web.pace import Pace
from feedback.intake import contract
from feedback.intake.contract import Rejected
from feedback.intake.edge import Edge, Record
from feedback.records import Rating
from tests.deploy.gateway.test_redaction import MANY, Refusing
from tests.deploy.gateways import KEY, NOW_US, Gateway, running
from tests.deploy.web.test_bodies import request_of
from tests.fakes import CLOCK, ManualClock

APP = Caller("acme", frozenset({"ingest"}))


def turn(number: int = 1, **fields: Any) -> dict[str, Any]:
    event: dict[str, Any] = {
        "event": "turn",
        "event_id": f"e-{number}",
        "turn_id": f"t-{number}",
        "conversation_id": "c",
    }
    event |= {"occurred_at": 1_790_000_000, "messages": [{"role": "user", "content": "Hi"}], "reply": "Hello"}
    return event | {"policy": "app-1"} | fields


def rating(number: int = 2, **fields: Any) -> dict[str, Any]:
    event = {"event": "rating", "event_id": f"e-{number}", "turn_id": "t-1", "conversation_id": "c"}
    return event | {"occurred_at": 1_790_000_100, "source": "user", "kind": "thumbs", "value": True} | fields


def lines(*events: Any) -> bytes:
    return b"\n".join(event if isinstance(event, bytes) else json.dumps(event).encode() for event in events)


def taken(raw: bytes, caller: Caller = APP, redaction: Redaction | None = None) -> Account:
    return asyncio.run(
        read_events(raw, caller, redaction or Redaction(Edge(KEY), CLOCK), ManualClock(NOW_US), Pace(CLOCK))
    )


def read(*events: Any, caller: Caller = APP) -> tuple[list[dict[str, Any]], int, list[dict[str, Any]]]:
    account = taken(lines(*events), caller)
    return [json.loads(record.value) for record in account.records], account.duplicates, account.rejected


def test_events_get_the_keys_tenant_and_are_redacted() -> None:
    events, _, _ = read(turn(reply="I am ann@example.com"), rating(user_id="ann"))
    assert [event["tenant"] for event in events] == ["acme", "acme"]
    assert events[0]["reply"] == "I am [email]"
    assert events[1]["user_id"] == Edge(KEY).user("ann")


def test_a_bad_line_is_named_and_the_others_count() -> None:
    events, duplicates, rejected = read(turn(1), b"{", b"", b"  \r", turn(2, policy=None), turn(1), rating(3))
    assert [event["event_id"] for event in events] == ["e-1", "e-3"]
    assert duplicates == 1
    assert [entry["line"] for entry in rejected] == [2, 5]
    assert "policy" in rejected[1]["reason"]


def test_byte_order_marks_and_halves_of_surrogate_pairs_refuse_nothing() -> None:
    bom = b"\xef\xbb\xbf"
    events, _, rejected = read(bom, bom + lines(turn(1)), turn(2, reply="cut \ud83d"), bom)
    assert [event["reply"] for event in events] == ["Hello", "cut \ufffd"]
    assert [entry["line"] for entry in rejected] == [4]
    _, _, rejected = read(bom, bom + lines(turn(3, reply="\x00")), turn(4, shoe="\ud83d", reply="\x00"))
    assert [entry["reason"] for entry in rejected] == ["the line holds a NUL character"] * 2


def test_what_only_others_may_say_is_rejected() -> None:
    _, _, rejected = read(turn(tenant="other"), rating(3, source="expert"), rating(4, source="judge"))
    assert [word in entry["reason"] for entry, word in zip(rejected, ("tenant", "label", "source"), strict=True)] == [
        True
    ] * 3
    events, _, _ = read(rating(3, source="expert"), caller=Caller("acme", frozenset({"ingest", "label"})))
    assert events[0]["source"] == "expert"


def test_nobody_else_can_claim_to_be_evidence_for_a_rollout() -> None:
    (event,), _, _ = read(turn(rollout={"id": "r", "arm": "candidate", "share": 1.0}))
    assert "rollout" not in event


@settings(max_examples=100)
@given(st.lists(st.sampled_from([*(turn(n) for n in range(4)), b"", b"nonsense", rating(9, value=7)]), max_size=12))
def test_every_line_is_accounted_for(events: list[Any]) -> None:
    accepted, duplicates, rejected = read(*events)
    assert len(accepted) + duplicates + len(rejected) == sum(event != b"" for event in events)
    assert len({event["event_id"] for event in accepted}) == len(accepted)


@pytest.mark.parametrize(
    ("event", "said"),
    [
        (turn(reply="a\x00b"), "NUL"),
        (turn(mood={"a\x00": 1}), "NUL"),
        (turn(mood=2**64), "64 bits"),
        (turn(mood=json.loads('{"a":' * 64 + "1" + "}" * 64)), "64 deep"),
        (b"[" * 90_000, "nested"),
        (b'{"event":"turn","\xff":1}', "UTF-8"),
        (json.dumps(turn(reply="X")).encode().replace(b"X", b"\\ud80"), "JSON"),
    ],
)
def test_what_no_body_may_hold_no_line_may_either(event: Any, said: str) -> None:
    events, _, rejected = read(turn(1), event)
    assert [event["event_id"] for event in events] == ["e-1"]
    assert said in rejected[0]["reason"]


def test_a_line_that_can_not_be_redacted_is_refused_and_the_others_count() -> None:
    account = taken(lines(turn(1), turn(2, reply=MANY), turn(2)), redaction=Redaction(Edge(KEY), CLOCK, Refusing()))
    assert [json.loads(record.value)["event_id"] for record in account.records] == ["e-1", "e-2"]
    assert account.rejected == [{"line": 2, "reason": "it can't be redacted: it was not redacted within 0 s"}]


def test_a_crowded_line_is_refused_before_it_is_read() -> None:
    _, _, rejected = read(turn(1, mood=[[]] * 60_000), turn(2, mood=[{"a": 1}] * 60_000))
    assert [entry["reason"] for entry in rejected] == ["the line holds more than 50000 values"] * 2


async def test_who_sends_in_bulk_gives_way() -> None:
    body = lines(*(turn(number, reply=f"order {number}") for number in range(3_000)))
    reading = asyncio.create_task(read_events(body, APP, Redaction(Edge(KEY), CLOCK), CLOCK, Pace(CLOCK)))
    steps = 0
    while not reading.done():
        await asyncio.sleep(0)
        steps += 1
    assert len((await reading).records) == 3_000
    assert steps > 10


class Working(ManualClock):
    """Whatever is done takes longer than a slice; what is slept is noted."""

    def __init__(self, slept: list[float]) -> None:
        super().__init__(NOW_US)
        self._slept = slept

    def monotonic_s(self) -> float:
        self.set_forward(2 * SLICE_S)
        return super().monotonic_s()

    async def sleep(self, seconds: float) -> None:
        self._slept.append(seconds)


async def test_all_who_send_in_bulk_give_way_together() -> None:
    pace, slept = Pace(ManualClock()), list[float]()
    for _ in range(3):
        await read_events(lines(turn(1)), APP, Redaction(Edge(KEY), CLOCK), Working(slept), pace)
    assert slept == pytest.approx([PAUSE_S, 2 * PAUSE_S, 3 * PAUSE_S])


class Logged:
    """Takes so many runs."""

    def __init__(self, room: int) -> None:
        self.runs: list[Sequence[Record]] = []
        self._room = room

    async def send(self, records: Sequence[Record]) -> bool:
        self.runs.append(records)
        return len(self.runs) <= self._room


async def test_bulk_is_made_durable_in_runs_so_that_nobody_waits_for_all_of_it() -> None:
    records, log = [Record("t", b"", b"%d" % number) for number in range(2 * RUN + 1)], Logged(3)
    assert await send_in_runs(log, records)
    assert [len(run) for run in log.runs] == [RUN, RUN, 1]
    assert [record for run in log.runs for record in run] == records
    full = Logged(1)
    assert not await send_in_runs(full, records)
    assert len(full.runs) == 2
    assert await send_in_runs(Logged(0), [])


async def test_too_many_lines_are_refused_before_the_rest_has_come() -> None:
    request, left = request_of([b"\n" * (MAX_LINES // 5)] * 40)
    with pytest.raises(ApiError) as refused:
        await read_body(request, 10_000_000, few_lines())
    assert (refused.value.status, refused.value.code, len(left)) == (413, "too_many_lines", 35)


def test_a_harmless_line_looks_suspicious_and_is_taken() -> None:
    events, _, rejected = read(
        turn(1, reply="C:\\u0000", mood=[[]] * 70), turn(2, mood=2**64 - 1), turn(3, reply="1" * 30)
    )
    assert (len(events), rejected) == (3, [])


def test_a_key_whose_tenant_can_not_be_a_name_sends_nothing() -> None:
    _, _, rejected = read(turn(), caller=Caller("o" * 300, frozenset({"ingest"})))
    assert rejected == [{"line": 1, "reason": "tenant has 300 characters; at most 256 are taken"}]


def parsed_three_times(line: bytes, caller: Caller, edge: Edge) -> Record | Rejected:
    """How a line was read before it was parsed once: what the answers and the records are to be."""
    event = contract.parse(line, NOW_US)
    if isinstance(event, Rejected):
        return event
    document: dict[str, Any] = msgspec.json.decode(line)
    if document.get("tenant", caller.tenant) != caller.tenant:
        return Rejected("bad_value", "tenant", f"tenant is another than the key's, {caller.tenant!r}")
    if isinstance(event, Rating) and event.source == "expert" and not caller.allows("label"):
        return Rejected("bad_value", "source", "source expert needs a key with the scope label")
    document["tenant"] = caller.tenant
    document.pop("rollout", None)
    return edge.record_of(document, NOW_US)


SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8)
)
ANYTHING = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
)
STAMP = st.none() | st.fixed_dictionaries({"id": st.just("r"), "arm": st.just("candidate"), "share": st.floats(0, 1)})
TEXTS = st.text(max_size=12) | st.sampled_from(["I am ann@example.com", "default", "acme", "+49 171 5550123", "ü", ""])
MESSAGES = st.lists(
    st.fixed_dictionaries(
        {"role": st.sampled_from(["user", "assistant", "tool", "robot"]), "content": TEXTS},
        optional={"name": TEXTS, "tool_calls": ANYTHING},
    ),
    max_size=3,
)
PROPER: dict[str, st.SearchStrategy[Any]] = {
    "tenant": st.sampled_from(["default", "acme", "other"]),
    "user_id": TEXTS,
    "locale": st.sampled_from(["de", "pt-BR"]),
    "tags": st.dictionaries(TEXTS, TEXTS, max_size=3),
    "messages": MESSAGES,
    "reply": TEXTS | st.fixed_dictionaries({"role": st.just("assistant"), "content": TEXTS}),
    "occurred_at": st.sampled_from(["2026-01-01T12:00:00Z", 1_790_000_000.123456, 1_790_000_000, "yesterday", 2**62]),
    "usage": st.dictionaries(st.sampled_from(["prompt_tokens", "latency_ms"]), st.integers() | st.floats(0, 1)),
    "outcome": st.sampled_from(["ok", "aborted", "bad"]),
    "rollout": STAMP,
    "extra": st.fixed_dictionaries({}, optional={"rollout": STAMP, "mail": TEXTS}),
    "source": st.sampled_from(["user", "expert", "system", "judge"]),
    "kind": st.sampled_from(["thumbs", "stars", "comment", "edit", "pick", "signal"]),
    "value": st.sampled_from([True, 5, "copy", "Mail ann@example.com", {"over": "t-2"}]),
    "schema": st.sampled_from([1, 2]),
    "mood": ANYTHING,
}
FIELDS = st.fixed_dictionaries({}, optional=PROPER) | st.dictionaries(st.sampled_from([*PROPER, "event"]), ANYTHING)


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from([turn(), rating()]),
    FIELDS,
    st.booleans(),
    st.sampled_from(["default", "acme"]),
    st.sampled_from(["ingest", "label"]),
)
def test_a_line_parsed_once_is_what_it_was_when_it_was_parsed_three_times(
    event: dict[str, Any], fields: dict[str, Any], spaced: bool, tenant: str, scope: str
) -> None:
    line = json.dumps(event | fields, separators=(", ", ": ") if spaced else (",", ":")).encode()
    shape = Shape("line")
    shape.add(line)
    shape.end()
    if shape.unkept is not None:
        return  # it was taken as it was, and is looked at more closely now
    caller, edge = Caller(tenant, frozenset({"ingest", scope})), Edge(KEY)
    expected = parsed_three_times(line, caller, edge)
    account = taken(line, caller)
    if isinstance(expected, Rejected):
        assert account.rejected == [{"line": 1, "reason": expected.message}]
    else:
        assert (account.records, account.rejected) == ([expected], [])


@pytest.fixture
async def gateway(control: Control, folder: Path) -> AsyncIterator[Gateway]:
    async with running(control, folder, require_keys=True) as gateway:
        yield gateway


@pytest.mark.slow
async def test_a_body_is_answered_with_its_account(gateway: Gateway) -> None:
    async with gateway.http(gateway.new_key("ingest")) as client:
        answer = await client.post("/v1/events", content=lines(turn(1), turn(1), b"x", rating()))
    assert answer.status_code == 200
    assert answer.json()["accepted"] == 2
    assert answer.json()["duplicates"] == 1
    assert [entry["line"] for entry in answer.json()["rejected"]] == [3]
    assert [record.topic for record in gateway.producer.records] == ["turns.served", "ratings.given"]


@pytest.mark.slow
async def test_too_many_lines_and_a_log_that_is_full_are_said(gateway: Gateway) -> None:
    async with gateway.http(gateway.new_key("ingest")) as client:
        assert (await client.post("/v1/events", content=b"\n" * MAX_LINES)).status_code == 413
        gateway.producer.broken = True
        full = await client.post("/v1/events", content=lines(turn()))
        assert (full.status_code, full.headers["retry-after"]) == (503, "5")
        assert (await client.post("/v1/events", content=b"")).json() == {"accepted": 0, "duplicates": 0, "rejected": []}
