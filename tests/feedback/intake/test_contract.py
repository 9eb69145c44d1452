"""The wire contract: what is taken, what is rejected, and that the reason names the field."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feedback.intake.contract import MAX_EVENT_BYTES, Rejected, parse, parse_object, parse_sent, time_us
from feedback.records import Pick, Rating, Score, Turn

NOW_US = 1_790_000_000_000_000

TURN: dict[str, Any] = {
    "event": "turn",
    "event_id": "e1",
    "conversation_id": "c1",
    "occurred_at": "2026-01-01T12:00:00Z",
    "turn_id": "t1",
    "messages": [{"role": "user", "content": "hello"}],
    "reply": "hi",
    "policy": "p1",
}
RATING: dict[str, Any] = {
    "event": "rating",
    "event_id": "e2",
    "conversation_id": "c1",
    "occurred_at": 1_767_268_800,
    "turn_id": "t1",
    "source": "user",
    "kind": "thumbs",
    "value": True,
}


def parsed(document: dict[str, Any], **changes: Any) -> Turn | Rating | Rejected:
    changed = {name: value for name, value in {**document, **changes}.items() if value is not ...}
    return parse(json.dumps(changed).encode(), NOW_US)


def test_a_turn_keeps_everything_it_was_sent_with() -> None:
    turn = parsed(TURN, locale="de", replaces="t0", usage={"latency_ms": 12.5}, shoe_size=43)
    assert isinstance(turn, Turn)
    assert (turn.locale, turn.replaces, turn.usage) == ("de", "t0", {"latency_ms": 12.5})
    assert turn.extra == {"shoe_size": 43}
    assert turn.tenant == "default"


def test_an_extra_that_is_no_object_is_kept_beside_the_others() -> None:
    for extra, kept in ((5, {"extra": 5}), ({"hat": 1}, {"hat": 1})):
        turn = parsed(TURN, extra=extra, shoe_size=43)
        assert isinstance(turn, Turn)
        assert turn.extra == {**kept, "shoe_size": 43}


def test_what_only_the_edge_stamps_is_nothing_but_extra_from_outside() -> None:
    turn = parsed(TURN, bucket=7, occurred_at_us=1)
    assert isinstance(turn, Turn)
    assert turn.extra == {"bucket": 7, "occurred_at_us": 1}
    assert (turn.bucket, turn.occurred_at_us) == (0, time_us(TURN["occurred_at"]))


def test_times_are_rfc_3339_with_an_offset_or_seconds() -> None:
    assert time_us("2026-01-01T13:00:00+01:00") == time_us("2026-01-01T12:00:00Z") == time_us(1_767_268_800.0)


@pytest.mark.parametrize(
    ("kind", "value", "typed"),
    [
        ("thumbs", False, False),
        ("stars", 5, 5),
        ("pick", {"over": "t0"}, Pick("t0")),
        ("pick", {"over": "t0", "tie": True}, Pick("t0", True)),
        ("edit", "better", "better"),
        ("comment", "thanks", "thanks"),
        ("signal", "regenerate", "regenerate"),
        ("score", {"name": "csat", "value": 0.5}, Score("csat", 0.5)),
        ("thumbs", None, None),
    ],
)
def test_each_kind_takes_its_value_and_null_takes_it_back(kind: str, value: Any, typed: Any) -> None:
    rating = parsed(RATING, kind=kind, value=value)
    assert isinstance(rating, Rating)
    assert rating.value == typed
    assert type(rating.value) is type(typed)


@pytest.mark.parametrize(
    ("changes", "code", "field"),
    [
        ({"event": ...}, "missing_field", "event"),
        ({"event": "verdict"}, "unknown_kind", "event"),
        ({"event": ["turn"]}, "unknown_kind", "event"),
        ({"schema": 2}, "unknown_schema", "schema"),
        ({"schema": True}, "unknown_schema", "schema"),
        ({"turn_id": ...}, "missing_field", "turn_id"),
        ({"turn_id": [7]}, "wrong_type", "turn_id"),
        ({"turn_id": ""}, "bad_value", "turn_id"),
        ({"turn_id": "a\nb"}, "bad_value", "turn_id"),
        ({"turn_id": "x" * 300}, "bad_value", "turn_id"),
        ({"reply": None}, "wrong_type", "reply"),
        ({"messages": "hello"}, "wrong_type", "messages"),
        ({"messages": [{"content": "hello"}]}, "missing_field", "messages[0].role"),
        ({"messages": [{"role": "king", "content": "hello"}]}, "bad_value", "messages[0].role"),
        ({"messages": [{"role": ["user"], "content": "hello"}]}, "bad_value", "messages[0].role"),
        ({"messages": [{"role": "user", "content": 5}]}, "wrong_type", "messages[0].content"),
        ({"messages": [{"role": "user", "content": ["a"]}]}, "wrong_type", "messages[0].content"),
        ({"occurred_at": "yesterday"}, "bad_value", "occurred_at"),
        ({"occurred_at": "2026-01-01T12:00:00"}, "bad_value", "occurred_at"),
        ({"occurred_at": 1e300}, "future", "occurred_at"),
        ({"occurred_at": NOW_US / 1e6 + 3_700}, "future", "occurred_at"),
        ({"occurred_at": "1999-12-31T23:59:59Z"}, "too_old", "occurred_at"),
        ({"outcome": "great"}, "bad_value", "outcome"),
        ({"tags": {"a": [1]}}, "wrong_type", "tags[...]"),
        ({"tags": {str(i): "x" for i in range(40)}}, "bad_value", "tags"),
    ],
)
def test_a_bad_turn_is_rejected_with_its_field(changes: dict[str, Any], code: str, field: str) -> None:
    rejected = parsed(TURN, **changes)
    assert isinstance(rejected, Rejected)
    assert (rejected.code, rejected.field) == (code, field)
    assert field.split("[")[0] in rejected.message


@pytest.mark.parametrize(
    ("changes", "code", "field"),
    [
        ({"source": "judge"}, "bad_value", "source"),
        ({"kind": "applause"}, "bad_value", "kind"),
        ({"turn_id": ...}, "missing_field", "turn_id"),
        ({"value": ...}, "missing_field", "value"),
        ({"value": 1}, "bad_value", "value"),
        ({"kind": "stars", "value": 6}, "bad_value", "value"),
        ({"kind": "stars", "value": True}, "bad_value", "value"),
        ({"kind": "stars", "value": 4.5}, "bad_value", "value"),
        ({"kind": "pick", "value": {"under": "t0"}}, "bad_value", "value"),
        ({"kind": "score", "value": {"name": "csat", "value": 1.5}}, "bad_value", "value"),
        ({"kind": "signal", "value": "applause"}, "bad_value", "value"),
        ({"kind": "signal", "value": {"over": "t2"}}, "bad_value", "value"),
        ({"kind": "signal", "value": ["copy"]}, "bad_value", "value"),
        ({"kind": "edit", "value": 3}, "bad_value", "value"),
    ],
)
def test_a_bad_rating_is_rejected_with_its_field(changes: dict[str, Any], code: str, field: str) -> None:
    rejected = parsed(RATING, **changes)
    assert isinstance(rejected, Rejected)
    assert (rejected.code, rejected.field) == (code, field)


def test_a_rating_of_a_whole_conversation_needs_no_turn() -> None:
    rating = parsed(RATING, kind="stars", value=4, turn_id=...)
    assert isinstance(rating, Rating)
    assert rating.turn_id is None


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (b"{", "bad_json"),
        (b"[1]", "not_an_object"),
        (b'{"a": "\xff"}', "bad_utf8"),
        (b'{"a": "\xed\xa0\x80\xff"}', "bad_utf8"),
        (b'{"a": "\\ud80"}', "bad_json"),
        (b"[" * 100_000, "too_deep"),
        (b'{"a":' * 100_000, "too_deep"),
        (b'{"event": "turn", "event": "turn"}', "duplicate_key"),
        (b'{"event": "turn", "messages": [{"role": "user", "role": "system"}]}', "duplicate_key"),
        (b" " * (MAX_EVENT_BYTES + 1), "too_large"),
    ],
)
def test_bytes_that_are_no_event_say_why(raw: bytes, code: str) -> None:
    rejected = parse(raw, NOW_US)
    assert isinstance(rejected, Rejected)
    assert rejected.code == code


def test_text_that_looks_like_a_key_is_no_duplicate() -> None:
    assert isinstance(parsed(TURN, reply='{"role": "user", "role": "user"}'), Turn)


OPTIONAL = {
    "tenant": ["default", "acme"],
    "schema": [1],
    "user_id": [None, "u1"],
    "locale": [None, "de"],
    "tags": [{}, {"channel": "web", "a:b": "12:30"}],
    "shoe_size": [43],
}
OPTIONAL_OF_TURN = {
    "messages": [[], [{"role": "user", "content": 'at "12": 30, or "role": 5'}, {"role": "user", "content": [{}]}]],
    "outcome": ["ok", "aborted"],
    "usage": [None, {}, {"latency_ms": 1}],
    "truncated": [0, 2],
    "replaces": [None, "t0"],
    "rollout": [None, {"arm": "a"}],
}

half_texts = st.text(st.characters(codec=None, categories=["Cs", "So"]), max_size=4)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20) | half_texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8) | half_texts, inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=100)
@given(
    st.sampled_from([TURN, RATING]),
    st.dictionaries(
        st.sampled_from([*TURN, *RATING, *OPTIONAL, *OPTIONAL_OF_TURN, "rubric", "extra"]), json_values, max_size=4
    ),
)
def test_any_mutated_event_is_either_an_event_or_rejected_with_a_sentence(base: dict[str, Any], changes: Any) -> None:
    raw = json.dumps({**base, **changes}).encode()
    for result in (parse(raw, NOW_US), parse_sent(raw, NOW_US, "acme")):
        assert isinstance(result, Turn | Rating) or (result.code and result.message.strip())


@settings(max_examples=100)
@given(json_values)
def test_any_json_is_either_an_event_or_rejected_with_a_sentence(value: Any) -> None:
    result = parse(json.dumps(value).encode(), NOW_US)
    assert isinstance(result, Rejected)
    assert result.message


@settings(max_examples=100)
@given(st.sampled_from([TURN, RATING]), st.data())
def test_what_is_taken_can_be_kept_and_read_back(base: dict[str, Any], data: st.DataObject) -> None:
    changes = data.draw(st.dictionaries(st.sampled_from([*base, *OPTIONAL, "usage", "extra"]), json_values, max_size=3))
    event = parse(json.dumps({**base, **changes}).encode(), NOW_US)
    if not isinstance(event, Rejected):
        assert msgspec.json.decode(msgspec.json.encode(event), type=Turn | Rating)


@pytest.mark.parametrize("name", [*TURN, "tags", "schema", "usage", "extra", "shoe_size"])
@pytest.mark.parametrize("depth", [50, 900, 990, 100_000])
@pytest.mark.parametrize(("opens", "closes"), [("[", "]"), ('{"a":', "}"), ('{"a:": 1, "a":', "}")])
def test_whatever_is_deep_is_an_event_or_rejected_with_a_sentence(
    name: str, depth: int, opens: str, closes: str
) -> None:
    raw = json.dumps({**TURN, name: "HERE"}).replace('"HERE"', opens * depth + "1" + closes * depth)
    result = parse(raw.encode(), NOW_US)
    assert isinstance(result, Turn | Rating) or (result.code and result.message)


@st.composite
def documents(draw: st.DrawFn) -> dict[str, Any]:
    base, optional = draw(st.sampled_from([(TURN, OPTIONAL | OPTIONAL_OF_TURN), (RATING, OPTIONAL)]))
    chosen = draw(st.fixed_dictionaries({}, optional={name: st.sampled_from(of) for name, of in optional.items()}))
    return {**base, **chosen}


@settings(max_examples=100)
@given(documents())
def test_an_event_is_the_same_whether_it_comes_as_bytes_or_as_an_object(document: dict[str, Any]) -> None:
    assert parse(json.dumps(document).encode(), NOW_US) == parse_object(document, NOW_US)


@settings(max_examples=100)
@given(documents(), st.data())
def test_any_key_that_stands_there_twice_is_noticed(document: dict[str, Any], data: st.DataObject) -> None:
    twice = data.draw(st.sampled_from(sorted(document)))
    raw = json.dumps({**document, "TWICE": document[twice]}).replace('"TWICE"', json.dumps(twice)).encode()
    result = parse(raw, NOW_US)
    assert isinstance(result, Rejected)
    assert (result.code, result.field) == ("duplicate_key", twice)


@settings(max_examples=100)
@given(documents().filter(lambda document: document.get("messages")), st.data())
def test_any_key_of_a_message_that_stands_there_twice_is_noticed(document: dict[str, Any], data: st.DataObject) -> None:
    messages = [dict(message) for message in document["messages"]]
    data.draw(st.sampled_from(messages))["TWICE"] = "user"
    raw = json.dumps({**document, "messages": messages}).replace('"TWICE"', '"role"').encode()
    result = parse(raw, NOW_US)
    assert isinstance(result, Rejected)
    assert (result.code, result.field) == ("duplicate_key", "role")


@settings(max_examples=100)
@given(st.binary(max_size=200))
def test_any_bytes_are_either_an_event_or_rejected_with_a_sentence(raw: bytes) -> None:
    result = parse(raw, NOW_US)
    assert isinstance(result, Turn | Rating) or (result.code and result.message)
