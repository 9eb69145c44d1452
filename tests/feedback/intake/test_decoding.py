"""From bytes to an object: byte order marks and halves of surrogate pairs, and what stays refused."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feedback.intake.contract import REPLACED, Rejected, parse, parse_sent
from feedback.intake.decoding import BOM, repaired
from feedback.records import Rating, Turn
from tests.feedback.intake.test_contract import NOW_US, RATING, TURN, parsed


def raw_turn(**changes: Any) -> bytes:
    return json.dumps({**TURN, **changes}).encode()


@pytest.mark.parametrize("before", [BOM, BOM + b" ", b"\n" + BOM, BOM + BOM])
def test_a_byte_order_mark_before_an_event_is_nothing(before: bytes) -> None:
    assert parse(before + raw_turn(), NOW_US) == parsed(TURN)
    assert parse(before + raw_turn(shoe_size=43), NOW_US) == parsed(TURN, shoe_size=43)
    assert parse_sent(before + raw_turn(), NOW_US, "default") == parsed(TURN)


def test_a_byte_order_mark_within_a_text_stays() -> None:
    turn = parsed(TURN, reply="\ufeffhi")
    assert isinstance(turn, Turn)
    assert turn.reply == "\ufeffhi"


@pytest.mark.parametrize(
    ("written", "read", "replaced"),
    [
        (rb"cut \ud83d", "cut \ufffd", 1),
        (rb"\ud83d and on", "\ufffd and on", 1),
        (rb"\udc00\uD83D", "\ufffd\ufffd", 2),
        (rb"\ud83d\ud83d\ude42", "\ufffd🙂", 1),
        (rb"\ud83d\ude42\ude42", "🙂\ufffd", 1),
        (rb"\ud83d\u0041", "\ufffdA", 1),
        (rb"\\ud83d\ud83d", r"\ud83d" + "\ufffd", 1),
        (rb"\\\ud83d \"\ud83d", '\\\ufffd "\ufffd', 2),
        (b"raw \xed\xa0\xbd", "raw \ufffd", 1),
        (b"raw pair \xed\xa0\xbd\xed\xb9\x82, half \xed\xb9\x82", "raw pair 🙂, half \ufffd", 1),
        (b"\xed\xa0\xbd\\ude42", "\ufffd\ufffd", 2),
    ],
)
def test_each_half_of_a_surrogate_pair_is_replaced_and_counted(written: bytes, read: str, replaced: int) -> None:
    turn = parse(raw_turn(reply="HERE").replace(b"HERE", written), NOW_US)
    assert isinstance(turn, Turn)
    assert turn.reply == read
    assert turn.extra == {REPLACED: replaced}


@pytest.mark.parametrize(
    "text", ["🙂", "family \U0001f468\u200d\U0001f469", r"\ud83d", r"a \\ud83d", "\u05d1\u05ea 🙂", "\ufffd"]
)
def test_whole_pairs_and_what_only_looks_like_half_of_one_stay_as_they_are(text: str) -> None:
    for ascii_only in (True, False):
        turn = parse(json.dumps({**TURN, "reply": text}, ensure_ascii=ascii_only).encode(), NOW_US)
        assert isinstance(turn, Turn)
        assert (turn.reply, turn.extra) == (text, {})


def test_halves_are_replaced_wherever_they_stand() -> None:
    sent: dict[str, Any] = {
        **TURN,
        "turn_id": "t\ud83d",
        "user_id": "ann\udc00",
        "tags": {"mood\ud83d": "\ud83d"},
        "messages": [{"role": "user", "content": [{"type": "text", "text": "\ud83d"}]}],
        "shoe\ud83d": [{"\ud83d": "\ud83d"}],
    }
    turn = parse(json.dumps(sent).encode(), NOW_US)
    assert isinstance(turn, Turn)
    assert (turn.turn_id, turn.user_id, turn.tags) == ("t\ufffd", "ann\ufffd", {"mood\ufffd": "\ufffd"})
    assert turn.messages[0]["content"] == [{"type": "text", "text": "\ufffd"}]
    assert turn.extra == {"shoe\ufffd": [{"\ufffd": "\ufffd"}], REPLACED: 8}
    rating = parse(json.dumps({**RATING, "kind": "comment", "value": "\ud83d"}).encode(), NOW_US)
    assert isinstance(rating, Rating)
    assert (rating.value, rating.extra) == ("\ufffd", {REPLACED: 1})


def test_a_key_that_stands_there_twice_once_halves_are_replaced_is_refused() -> None:
    rejected = parse(raw_turn(extra={"a\ud800": 1, "OTHER": 2}).replace(b"OTHER", rb"a\udfff"), NOW_US)
    assert isinstance(rejected, Rejected)
    assert rejected.code == "duplicate_key"


@pytest.mark.parametrize(
    "raw", [b'"\xff"', b'"M\xfcller"', b'"\xe2\x82"', b'"\xed\xa0\xbd \xff"', "zwölf".encode("utf-16")]
)
def test_other_bytes_that_are_no_utf_8_are_refused(raw: bytes) -> None:
    rejected = parse(raw, NOW_US)
    assert isinstance(rejected, Rejected)
    assert rejected.code == "bad_utf8"


@settings(max_examples=100)
@given(st.text(st.characters(codec=None, exclude_categories=()), max_size=20))
def test_any_text_is_read_as_it_would_be_shown(text: str) -> None:
    whole = json.loads(json.dumps(text))  # Python's reader joins pairs and keeps halves
    halves = re.compile("[\ud800-\udfff]")
    raw, replaced = repaired(json.dumps(text).encode())
    assert json.loads(raw) == halves.sub("\ufffd", whole)
    assert replaced == len(halves.findall(whole))
