"""Files as other systems' users sent them, read as a replay reads them: what is taken, and what the refusals say."""

from __future__ import annotations

from pathlib import Path

import pytest

from feedback.intake.contract import REPLACED, Rejected, parse
from feedback.intake.event_files import lines
from feedback.records import Rating, Turn
from tests.feedback.intake.test_contract import NOW_US

CASES = Path(__file__).parent / "cases"


def read(name: str) -> dict[str, Turn | Rating | Rejected]:
    """What comes of each line, by event id; of what is refused, by the number of its line."""
    parsed = [(line.number, line.rejected or parse(line.raw, NOW_US)) for line in lines(CASES / name)]
    return {str(number) if isinstance(made, Rejected) else made.event_id: made for number, made in parsed}


def refused(events: dict[str, Turn | Rating | Rejected]) -> dict[str, str]:
    return {name: made.message for name, made in events.items() if isinstance(made, Rejected)}


def test_usage_as_openai_has_it_is_no_dead_letter() -> None:
    events = read("04-openai-usage-verbatim.jsonl")
    assert refused(events) == {}
    turn = events["e-a"]
    assert isinstance(turn, Turn)
    assert turn.usage is not None
    assert turn.usage["prompt_tokens_details"] == {"cached_tokens": 0}
    assert isinstance(unsaid := events["e-b"], Turn)
    assert unsaid.usage == {"prompt_tokens": 10, "completion_tokens": None}


def test_loose_tags_and_ids_are_text() -> None:
    events = read("05-loose-tags-and-ids.jsonl")
    assert refused(events) == {"11": "tags: expected `object`, got `array`"}
    tags = {name: made.tags for name, made in events.items() if isinstance(made, Turn)}
    assert tags["e-a"] == {"version": "3"}
    assert tags["e-b"] == {"beta": "true"}
    assert tags["e-c"] == tags["e-d"] == {}
    turn, rating, other = events["e-h"], events["r-h-thumbs-user"], events["e-i"]
    assert isinstance(turn, Turn)
    assert isinstance(rating, Rating)
    assert isinstance(other, Turn)
    assert (turn.user_id, rating.user_id, other.conversation_id) == ("17", "17", "12")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("1", "milliseconds since the epoch: send seconds (1764000000)"),
        ("2", "microseconds since the epoch: send seconds (1764000000)"),
        ("4", "has no offset"),
        ("11", "hour must be in 0..23"),
        ("12", "send RFC 3339"),
        ("13", "send RFC 3339"),
        ("17", "has no offset"),
    ],
)
def test_times_that_are_refused_say_what_is_missing(line: str, said: str) -> None:
    told = refused(read("09-times-of-many-kinds.jsonl"))
    assert len(told) == 7
    assert said in told[line]


def test_times_that_are_legal_are_taken() -> None:
    events = read("09-times-of-many-kinds.jsonl")
    at_us = {name: made.occurred_at_us for name, made in events.items() if isinstance(made, Turn)}
    assert at_us["e-t2"] == 1_764_000_000_000_000
    assert at_us["e-t4"] == at_us["e-t5"] == at_us["e-t6"] == 1_763_979_300_000_000
    assert at_us["e-t7"] == 1_763_979_300_123_456
    assert at_us["e-t8"] == 1_483_228_800_000_000
    assert at_us["e-t13"] == 1_764_000_000_500_000


def test_broken_unicode_is_mended_and_the_rest_stays_as_it_is() -> None:
    events = read("16-invisible-and-broken-unicode.jsonl")
    assert refused(events) == {}
    cut, family, hebrew = events["s1"], events["e-s2"], events["e-s8"]
    assert isinstance(cut, Turn)
    assert (cut.messages[0]["content"], cut.extra) == ("cut emoji \ufffd", {REPLACED: 1})
    assert isinstance(family, Turn)
    assert family.messages[0]["content"] == "family \U0001f468\u200d\U0001f469\u200d\U0001f467 and nul \x00 char"
    assert (family.reply, family.extra) == ("answer \u202eabc\u202c \x00 end", {})
    assert isinstance(hebrew, Turn)
    assert hebrew.reply == "\u05d1\u05ea\u05e9\u05e2 \U0001f642"
