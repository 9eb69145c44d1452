"""Events in bulk."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.control.store import Control
from deploy.gateway.events import MAX_LINES, read_events
from deploy.web.callers import Caller
from feedback.intake.edge import Edge
from tests.deploy.gateways import KEY, NOW_US, Gateway, running

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


def read(*events: Any, caller: Caller = APP) -> tuple[list[dict[str, Any]], int, list[dict[str, Any]]]:
    account = read_events(lines(*events), caller, Edge(KEY), NOW_US)
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


@given(st.lists(st.sampled_from([*(turn(n) for n in range(4)), b"", b"nonsense", rating(9, value=7)]), max_size=12))
def test_every_line_is_accounted_for(events: list[Any]) -> None:
    accepted, duplicates, rejected = read(*events)
    assert len(accepted) + duplicates + len(rejected) == sum(event != b"" for event in events)
    assert len({event["event_id"] for event in accepted}) == len(accepted)


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
