"""OpenAI's formats: what each line becomes, and what is lost of it."""

from __future__ import annotations

import json
from pathlib import Path

from feedback.intake.foreign import openai_chats
from feedback.intake.foreign.converting import Conversion

HERE = Path(__file__).parent


def test_each_line_becomes_a_turn_or_is_counted_with_its_reason() -> None:
    conversion = Conversion(time="2026-01-01T00:00:00Z")
    made = [json.loads(line.raw) for line in openai_chats.read(HERE / "openai.jsonl", conversion)]
    first, answered, wanted, unwanted, pick = made
    assert first["reply"]["content"] == "Black tea, brewed short."
    assert (answered["policy"], answered["occurred_at"], answered["user_id"]) == ("little-2", 1767268800, "u7")
    assert answered["finish_reason"] == "stop"
    assert (pick["turn_id"], pick["value"]["over"]) == (wanted["turn_id"], unwanted["turn_id"])
    assert conversion.first == {
        "a response without its request: join them by custom_id first": ["line 4"],
        "a chat without a reply at its end": ["line 5"],
        "no valid JSON": ["line 6"],
    }


def test_the_same_file_makes_the_same_ids() -> None:
    once, again = (
        [line.raw for line in openai_chats.read(HERE / "openai.jsonl", Conversion(time=1767268800))] for _ in range(2)
    )
    assert once == again
