from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from deploy.gateway.event_log import TOLD_EVERY_S, Ended, EventLog, turn_record
from deploy.gateway.redaction import Redaction, newest
from feedback.intake.contract import MAX_EVENT_BYTES
from feedback.intake.edge import Edge, Record, encoded
from feedback.records import Turn
from tests.fakes import CLOCK, ManualClock, MemoryProducer

NOW_US = 1_800_000_000_000_000
EDGE = Edge(b"key")


def turn(messages: list[dict[str, Any]]) -> Turn:
    ids = {"tenant": "acme", "event_id": "e", "turn_id": "t", "conversation_id": "c", "policy": "p"}
    return Turn(**ids, occurred_at_us=NOW_US, messages=messages, reply="", outcome="aborted")


async def log(events: EventLog, messages: list[dict[str, Any]], reply: str = "Hello") -> bool:
    """From beginning to end."""
    begun = await events.begin_turn(turn(messages), hold=True)
    return await events.end_turn(begun, [Ended("t", reply, "ok", "stop", {}, {})])


def said(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


@given(st.lists(st.text(max_size=30).map(said), max_size=8), st.integers(0, 400))
def test_the_newest_messages_are_as_many_as_fit(messages: list[dict[str, Any]], room: int) -> None:
    kept = newest(messages, room)
    assert kept == messages[len(messages) - len(kept) :]
    assert sum(len(msgspec.json.encode(message)) + 1 for message in kept) <= room
    one_more = messages[max(0, len(messages) - len(kept) - 1) :]
    assert kept == messages or sum(len(msgspec.json.encode(message)) + 1 for message in one_more) > room


@pytest.mark.parametrize(("sizes", "kept"), [([10, 10], 2), ([900_000, 300_000, 5], 2), ([5, 2_000_000], 0)])
def test_a_turn_too_big_for_the_broker_says_what_it_lost(sizes: list[int], kept: int) -> None:
    asked = turn([said("x" * size) for size in sizes])
    record = turn_record(EDGE, asked, encoded(asked.messages), asked.messages)
    assert len(record.value) <= MAX_EVENT_BYTES
    event = json.loads(record.value)
    assert (len(event["messages"]), event.get("truncated", 0)) == (kept, len(sizes) - kept)


async def test_a_turn_whose_reply_alone_is_too_big_counts_without_its_texts() -> None:
    producer = MemoryProducer()
    assert await log(EventLog(producer, CLOCK, Redaction(EDGE, CLOCK)), [said("Hi")], "word " * 300_000)
    record = producer.records[-1]
    assert len(record.value) <= MAX_EVENT_BYTES
    kept = msgspec.json.decode(record.value, type=Turn)
    assert (kept.outcome, kept.messages, kept.reply) == ("ok", [], "")


async def test_sent_means_durable() -> None:
    producer = MemoryProducer()
    assert await log(EventLog(producer, CLOCK, Redaction(EDGE, CLOCK)), [said("Hi")])
    assert len(producer.records) == 1


async def test_a_log_that_breaks_or_does_not_answer_is_false() -> None:
    producer = MemoryProducer()
    producer.broken = True
    assert not await log(EventLog(producer, CLOCK, Redaction(EDGE, CLOCK)), [said("Hi")])
    producer.go.clear()
    assert not await log(EventLog(producer, CLOCK, Redaction(EDGE, CLOCK), timeout_s=0.01), [said("Hi")])
    producer.go.set()


async def test_what_is_not_logged_is_said_without_what_was_said(capsys: pytest.CaptureFixture[str]) -> None:
    producer = MemoryProducer()
    producer.broken = True
    assert not await log(EventLog(producer, CLOCK, Redaction(EDGE, CLOCK)), [said("my secret")], "a secret")
    logged = "".join(capsys.readouterr())
    assert "no space left on device" in logged
    assert "secret" not in logged


async def test_what_can_not_be_logged_is_told_now_and_then_and_not_for_each_turn() -> None:
    clock, producer = ManualClock(), MemoryProducer()
    producer.broken = True
    events = EventLog(producer, clock, Redaction(EDGE, CLOCK))
    with capture_logs() as told:
        for _ in range(3):
            assert not await events.send([Record("t", b"k", b"v", ())] * 2)
        assert [(line["event"], line["records"]) for line in told] == [("events_not_logged", 2)]
        clock.set_forward(TOLD_EVERY_S)
        assert not await events.send([Record("t", b"k", b"v", ())])
    assert [line["records"] for line in told] == [2, 5]
