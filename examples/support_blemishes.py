"""What no real log is without: failed turns, odd messages, late and early lines, duplicates, lines that are no events."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import Any

from support_language import Dice

Event = dict[str, Any]

BROKEN_LINES = (
    '{"event":"turn","schema":1,"event_id":"broken-1","conversation_id":"c0100","turn_id":"t0100-9","messa',
    '{"event":"turn","schema":7,"event_id":"broken-2","conversation_id":"c0200","occurred_at":"2026-11-02T12:00:00Z"}',
    '{"event":"rating","schema":1,"event_id":"broken-3","conversation_id":"c0300","occurred_at":"2026-11-05T12:00:00Z","source":"user","kind":"thumbs","value":true}',
    '{"event":"rating","schema":1,"event_id":"broken-4","conversation_id":"c0400","turn_id":"t0400-1","occurred_at":"2026-11-08T12:00:00Z","source":"user","kind":"stars","value":7}',
    '{"event":"turn","schema":1,"event_id":"broken-5","conversation_id":"c0500","turn_id":"t0500-9","occurred_at":"2026-11-10T12:00:00Z","messages":[{"role":"user","content":"?"}],"reply":"!"}',
)
"""Cut off; of an unknown schema; thumbs of no turn; seven stars; a turn without policy."""

ORPHAN: Event = {
    "event": "rating",
    "schema": 1,
    "event_id": "rated-lost",
    "conversation_id": "c0600",
    "turn_id": "t0600-lost",
    "user_id": "customer-007",
    "occurred_at": "2026-11-12T12:00:00Z",
    "source": "user",
    "kind": "thumbs",
    "value": False,
    "locale": "en-GB",
}


def blemished(dice: Dice, events: list[Event]) -> list[Event | str]:
    """The events in the order in which a log would have them, with what goes wrong."""
    for event in events:
        if event["event"] == "turn":
            spoil_turn(dice, event)
    ordered = sorted([*events, ORPHAN], key=lambda event: (arrival(dice, event), event["event_id"]))
    lines: list[Event | str] = list(ordered)
    thumbs = [event for event in ordered if event.get("kind") == "thumbs" and event["value"] is not None]
    twice, other = thumbs[40], thumbs[80]
    lines.insert(lines.index(twice) + 3, twice)
    lines.insert(lines.index(other) + 5, {**other, "value": not other["value"]})
    for place, line in enumerate(BROKEN_LINES, 1):
        lines.insert(place * len(lines) // 6, line)
    return lines


def arrival(dice: Dice, event: Event) -> datetime:
    """When an event was written down: at once, but for a few phones without a network and a few slow servers."""
    at = datetime.fromisoformat(event["occurred_at"])
    if event["event"] == "rating" and dice.chance(0.015):
        return at + timedelta(hours=dice.number(3, 120))
    if event["event"] == "turn" and dice.chance(0.01):
        return at + timedelta(minutes=dice.number(2, 30))
    return at


def spoil_turn(dice: Dice, turn: Event) -> None:
    """Make a turn one of those that a log has beside the plain ones; most stay as they are."""
    spoil = dice.weighted(
        {
            None: 0.92,
            failed: 0.01,
            aborted: 0.01,
            not_for_training: 0.01,
            with_tool: 0.015,
            with_parts: 0.012,
            with_usage: 0.2,
            as_message: 0.01,
        }
    )
    if spoil is not None:
        spoil(dice, turn)


def failed(dice: Dice, turn: Event) -> None:
    turn.update(reply="", outcome="error")


def aborted(dice: Dice, turn: Event) -> None:
    turn.update(reply=turn["reply"][: len(turn["reply"]) // 2], outcome="aborted")


def not_for_training(dice: Dice, turn: Event) -> None:
    turn["train"] = False


def with_usage(dice: Dice, turn: Event) -> None:
    turn["finish_reason"] = "stop"
    turn["usage"] = {
        "prompt_tokens": sum(len(str(message["content"])) for message in turn["messages"]) // 3,
        "completion_tokens": len(turn["reply"]) // 3,
        "latency_ms": dice.number(180, 2_400),
    }


def as_message(dice: Dice, turn: Event) -> None:
    turn["reply"] = {"role": "assistant", "content": turn["reply"]}


def with_parts(dice: Dice, turn: Event) -> None:
    """The last message in parts; every other time with a picture, from which nothing is learned."""
    last = turn["messages"][-1]
    parts: list[Event] = [{"type": "text", "text": last["content"]}]
    if dice.chance(0.5):
        parts.append({"type": "image_url", "image_url": {"url": "https://img.example.com/upload.jpg"}})
    turn["messages"][-1] = {"role": "user", "content": parts}


def with_tool(dice: Dice, turn: Event) -> None:
    """The assistant looked something up before it answered."""
    call_id = f"call_{turn['turn_id']}"
    arguments = json.dumps({"conversation": turn["conversation_id"], "contact": "reader@example.com"})
    call = {"id": call_id, "type": "function", "function": {"name": "find_order", "arguments": arguments}}
    turn["messages"] += [
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": call_id, "content": '{"status":"found"}'},
    ]
