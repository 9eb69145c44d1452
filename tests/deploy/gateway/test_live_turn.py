"""What is logged of a turn is what the wire contract would have made of it."""

from __future__ import annotations

import asyncio
import copy
import json
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from deploy.engine.port import EngineFailed, EngineRefused
from deploy.gateway.event_log import Ended, EventLog
from deploy.gateway.identity import identify
from deploy.gateway.live_turn import LiveTurn, Plan, cost_of, explained, turn_of
from deploy.gateway.redaction import Redaction, newest
from deploy.gateway.request import parse_chat
from deploy.gateway.turn_ids import TurnId, TurnIds
from deploy.rules.assignment import Arm
from deploy.web.bodies import json_object
from deploy.web.errors import ApiError
from feedback.intake import contract
from feedback.intake.contract import MAX_EVENT_BYTES, OLDEST_US
from feedback.intake.edge import Edge, Record
from feedback.records import Outcome, Turn
from tests.fakes import CLOCK

EDGE = Edge(b"key")
NOW_US = 1_800_000_000_000_000


class Kept:
    """An outbox that remembers."""

    full = False

    def __init__(self) -> None:
        self.held: dict[str, Record] = {}
        self.sent: list[Record] = []

    async def hold(self, name: str, record: Record) -> None:
        self.held[name] = record

    async def send(self, records: Sequence[Record], releases: str | None = None) -> None:
        assert releases in self.held
        self.sent += records


def by_the_wire(plan: Plan, text: str, outcome: Outcome, finish_reason: str | None, usage: dict[str, Any]) -> Record:
    """The record as it was made before turns were typed: an event of the wire contract, parsed like anybody's."""
    event: dict[str, Any] = {
        "event": "turn",
        "event_id": plan.turn_id,
        "turn_id": plan.turn_id,
        "tenant": plan.tenant,
        "conversation_id": plan.who.conversation_id,
        "occurred_at": plan.started_at_us / 1_000_000,
        "user_id": plan.who.user_id,
        "locale": plan.who.locale,
        "tags": plan.who.tags,
        "messages": plan.request.messages,
        "reply": text,
        "policy": plan.policy,
        "base": plan.base,
        "rollout": plan.rollout,
        "outcome": outcome,
        "finish_reason": finish_reason if outcome == "ok" else None,
        "usage": usage,
    }
    document = {name: value for name, value in event.items() if value is not None}
    room, whole = MAX_EVENT_BYTES, len(document["messages"])
    record = _as_served(document)
    while len(record.value) > MAX_EVENT_BYTES and document["messages"]:
        room //= 2
        kept = newest(document["messages"], room)
        document = document | {"messages": kept, "truncated": whole - len(kept)}
        record = _as_served(document)
    return record


def _as_served(document: dict[str, Any]) -> Record:
    event = contract.parse_object(document, NOW_US)
    assert isinstance(event, Turn), event
    return EDGE.signed(EDGE.redacted(replace(event, origin="gateway")))


async def logged(plan: Plan, ended: Ended) -> tuple[Record, Record]:
    """The record that is held when the turn begins, and the one that is sent in the end."""
    kept = Kept()
    events = EventLog(kept, CLOCK, Redaction(EDGE, CLOCK))
    begun = await events.begin_turn(turn_of(plan, cost_of({}, 0.0), plan.request.messages), hold=True)
    assert begun.held
    assert await events.end_turn(begun, [ended])
    return kept.held[plan.turn_id], kept.sent[0]


def planned(body: dict[str, Any], tenant: str, adapter: str | None, rollout: dict[str, Any] | None, at_us: int) -> Plan:
    """As the dispatcher plans it. Raises ApiError."""
    body = json_object(json.dumps(body).encode("utf-8", "surrogatepass"))
    request = parse_chat(body)
    who = identify(tenant, body, request.messages, None)
    arm: Arm = "candidate" if rollout else "incumbent"
    turn_id = TurnIds(b"key").seal(TurnId(tenant, who.conversation_id, arm, adapter))
    return Plan(tenant, who, request, (turn_id,), "tiny-0123456789ab", adapter, arm, rollout, at_us)


async def both(plan: Plan, text: str, outcome: Outcome, finish: Any, tokens: int, latency_s: float) -> None:
    """Log a turn, and compare."""
    usage = {"prompt_tokens": tokens, "prompt_tokens_details": {"cached_tokens": tokens // 2}}
    cost = cost_of(usage, latency_s)
    held, sent = await logged(plan, Ended(plan.turn_id, text, outcome, finish if outcome == "ok" else None, cost, {}))
    assert held == by_the_wire(plan, "", "aborted", None, {"latency_ms": 0.0})
    assert sent == by_the_wire(plan, text, outcome, finish, usage | {"latency_ms": float(round(latency_s * 1000))})


TEXTS = st.text(max_size=20) | st.sampled_from(
    ["I am ann@example.com", "Ruf an: +49 171 5550123", "data:x", "ünï", "DE89 3704 0044 0532 0130 00", "", " \t"]
)
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)  # fmt: skip
PARTS = st.lists(st.fixed_dictionaries({"type": st.just("text"), "text": TEXTS}), max_size=2)
MESSAGES = st.lists(
    st.fixed_dictionaries(
        {"role": st.sampled_from(["system", "developer", "user", "assistant", "tool"]), "content": TEXTS | PARTS},
        optional={"name": TEXTS, "tool_calls": ANYTHING, "x": ANYTHING},
    ),
    min_size=1,
    max_size=4,
)
METADATA = st.dictionaries(st.sampled_from(["conversation_id", "locale", "app", "ann@example.com"]), TEXTS, max_size=4)
BODIES = st.fixed_dictionaries(
    {"model": st.just("trimtab"), "messages": MESSAGES},
    optional={"metadata": METADATA, "user": TEXTS, "safety_identifier": TEXTS},
)
STAMPS = st.none() | st.fixed_dictionaries({"id": TEXTS, "arm": st.just("candidate"), "share": st.floats(0, 1)})


@settings(max_examples=300, deadline=None)
@given(
    BODIES,
    st.sampled_from(["default", "acme", "ü/ü"]),
    st.none() | st.just("a" * 64),
    STAMPS,
    st.integers(OLDEST_US, NOW_US),
    TEXTS,
    st.sampled_from(["ok", "error", "aborted"]),
    st.sampled_from(["stop", "length", None]),
    st.integers(0, 2**40),
    st.floats(0, 1e6),
)
def test_a_turn_that_was_never_an_event_is_logged_as_the_event_it_would_have_been(
    body: Any, tenant: str, adapter: str | None, rollout: Any, at_us: int, text: str,
    outcome: Outcome, finish: Any, tokens: int, latency_s: float,
) -> None:  # fmt: skip
    try:
        plan = planned(body, tenant, adapter, rollout, at_us)
    except ApiError:
        assume(False)
    asyncio.run(both(plan, text, outcome, finish, tokens, latency_s))


@pytest.mark.parametrize("sizes", [(900_000, 300_000, 5), (400_000, 400_000, 400_000), (5, 2_000_000)])
@pytest.mark.parametrize("reply", [10, 550_000, 900_000])
async def test_a_turn_too_big_for_the_broker_loses_what_it_would_have_lost(sizes: Sequence[int], reply: int) -> None:
    # what is redacted is shorter than what was sent
    messages = [{"role": "user", "content": "ann@example.com " * (size // 16)} for size in sizes]
    plan = planned({"model": "trimtab", "messages": messages}, "acme", None, None, NOW_US)
    await both(plan, "x" * reply, "ok", "stop", 5, 0.1)


def test_a_key_whose_tenant_can_not_be_a_name_is_told_so() -> None:
    with pytest.raises(ApiError, match="tenant holds a control character"):
        planned({"model": "trimtab", "messages": [{"role": "user", "content": "Hi"}]}, "a\x07", None, None, NOW_US)


class Script:
    """An answer that says these documents, and then fails where it is to."""

    def __init__(self, documents: Sequence[dict[str, Any]], failure: Exception | None = None) -> None:
        self.documents, self.failure = documents, failure
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True

    async def __aiter__(self) -> AsyncIterator[dict[str, Any]]:
        for document in self.documents:
            yield document
        if self.failure is not None:
            raise self.failure


class Broken(Kept):
    """An outbox that nobody foresaw."""

    def hold(self, name: str, record: Record) -> Any:
        raise ValueError("nobody foresaw this")


def streamed(n: int = 1) -> Plan:
    body = {"model": "trimtab", "messages": [{"role": "user", "content": "Hi"}], "stream": True, "n": n}
    plan = planned(body, "acme", None, None, NOW_US)
    return replace(plan, turn_ids=tuple(f"turn-{index}" for index in range(n)))


def said(index: Any, content: str, finish_reason: str | None = None) -> dict[str, Any]:
    return {"choices": [{"index": index, "delta": {"content": content}, "finish_reason": finish_reason}]}


async def turned(plan: Plan, answer: Script) -> tuple[LiveTurn, list[dict[str, Any]], list[dict[str, Any]]]:
    """The turn, what was told of it, and what was logged."""
    kept = Kept()
    turn = LiveTurn(plan, answer, EventLog(kept, CLOCK, Redaction(EDGE, CLOCK)), "drop", 0.0, CLOCK)
    told: list[dict[str, Any]] = []
    while news := await turn.news():
        told += news
    await turn.task
    return turn, told, [json.loads(record.value) for record in kept.sent]


async def test_the_choices_that_began_before_it_broke_are_logged_as_what_they_are() -> None:
    answer = Script([said(1, "Hel"), said(1, "lo")], EngineFailed("it broke"))
    turn, told, logged = await turned(streamed(n=3), answer)
    assert turn.error is not None
    assert len(told) == 2
    assert [(event["turn_id"], event["reply"], event["extra"], event["outcome"]) for event in logged] == [
        ("turn-1", "Hello", {"choice": 1, "choices": 1}, "error")
    ]


@pytest.mark.parametrize("index", [7, -1, 2**40])
async def test_choices_that_nobody_asked_for_are_not_logged_and_the_turn_is_all_the_same(index: int) -> None:
    _, told, logged = await turned(streamed(), Script([said(index, "Hello", "stop")]))
    assert len(told) == 1
    assert [(event["turn_id"], event["reply"]) for event in logged] == [("turn-0", "")]
    assert not logged[0].get("extra")


async def test_what_is_still_to_be_told_is_told_as_it_was_said() -> None:
    def call(arguments: str, **more: Any) -> dict[str, Any]:
        function = {"arguments": arguments}
        return {"choices": [{"index": 0, "delta": {"tool_calls": [{"index": 0, "function": function, **more}]}}]}

    documents = [call("", id="call_1"), call('{"a"'), call(": 1}")]
    _, told, logged = await turned(streamed(), Script(copy.deepcopy(documents)))
    assert told == documents
    assert logged[0]["reply"]["tool_calls"] == [{"id": "call_1", "function": {"arguments": '{"a": 1}'}}]


async def test_an_answer_that_is_never_listened_to_is_cancelled() -> None:
    answer = Script([said(0, "Hello", "stop")])
    turn = LiveTurn(streamed(), answer, EventLog(Broken(), CLOCK, Redaction(EDGE, CLOCK)), "drop", 0.0, CLOCK)
    assert await turn.news() == []
    with pytest.raises(ValueError, match="nobody foresaw"):
        await turn.task
    assert answer.cancelled
    assert turn.error is not None


@pytest.mark.parametrize("after", ["17", "0.5", "Wed, 21 Oct 2026 07:28:00 GMT"])
def test_when_to_try_again_is_told_as_the_engine_said_it(after: str) -> None:
    refused = EngineRefused(429, {"error": {"message": "too many"}}, after)
    assert explained(refused).response().headers["retry-after"] == after
    assert "retry-after" not in explained(EngineRefused(429, {"error": {}}, None)).response().headers
