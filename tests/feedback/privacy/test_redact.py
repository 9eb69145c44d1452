import json
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from feedback.privacy import personal_data
from feedback.privacy.personal_data import TooMuchWork
from feedback.privacy.redact import CACHED_BYTES, MAX_DEPTH, Redactor, region_of
from tests.feedback.privacy.test_personal_data import PIECES

redactor = Redactor(b"a key of the tests")


def test_a_locale_adds_the_phone_numbers_of_its_country() -> None:
    assert redactor.text("612 345 678") == "612 345 678"
    assert redactor.text("612 345 678", "es-ES") == "[phone]"
    assert redactor.text("20 11 2026", "de") == "20 11 2026"


@pytest.mark.parametrize(
    ("locale", "region"),
    [("de-AT", "AT"), ("zh-Hans-CN", "CN"), ("es", "ES"), ("en", None), (None, None), ("xx_us", "US")],
)
def test_a_locale_names_or_implies_a_region(locale: str | None, region: str | None) -> None:
    assert region_of(locale) == region


def test_a_user_becomes_a_keyed_hash() -> None:
    assert redactor.user("anna") == Redactor(b"a key of the tests").user("anna")
    assert redactor.user("anna") != Redactor(b"another key").user("anna")
    assert redactor.user("anna") != redactor.user("Anna")
    assert len(redactor.user("\ud800")) == len("u_") + 20
    assert redactor.text(redactor.user("anna")) == redactor.user("anna")


def test_every_part_of_a_message_is_redacted() -> None:
    message = {
        "role": "user",
        "name": "anna",
        "content": [
            {"type": "text", "text": "I am anna@example.com"},
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,+4930901820/+4930901820"}},
        ],
    }
    assert redactor.message(message) == {
        "role": "user",
        "name": "[name]",
        "content": [{"type": "text", "text": "I am [email]"}, message["content"][1]],
    }


@pytest.mark.parametrize(
    "content",
    [
        "data: I am anna@example.com",
        "data:image/png;base64,+4930901820 is my number",
        [{"type": "text", "text": "data:text/plain,anna@example.com"}],
        [{"type": "text", "text": "data:image/png;base64,+4930901820"}],
        [{"type": "image_url", "image_url": {"url": "data:text/plain,anna@example.com"}}],
        [{"type": "image_url", "image_url": {"url": "data:anna@example.com;base64,QUJD"}}],
        [{"type": "image_url", "image_url": {"url": "data:;base64,QUJD anna@example.com"}}],
        [{"type": "input_audio", "input_audio": {"data": "anna@example.com", "format": "wav"}}],
        [{"type": "input_audio", "input_audio": {"data": "+4930901820", "format": "wav"}}],
    ],
)
def test_what_somebody_wrote_is_redacted_though_it_begins_as_data_do(content: Any) -> None:
    for message in ({"role": "user", "content": content}, {"role": "user", "content": content, "refusal": None}):
        shown = json.dumps(redactor.messages([message]))
        assert "anna@example.com" not in shown
        assert "4930901820" not in shown
        assert redactor.messages(json.loads(shown)) == json.loads(shown)
    if isinstance(content, str):
        assert "[" in redactor.text(content)
        assert "[" in redactor.message({"role": "assistant", "content": content})["content"]


BINARY = "4930901820/4111111111111111+" * 9


@pytest.mark.parametrize(
    "part",
    [
        {"image_url": {"url": f"data:image/png;base64,{BINARY}"}},
        {"image_url": f"DATA:image/svg+xml;charset=utf-8;BASE64,{BINARY}=="},
        {"file": {"filename": "a.pdf", "file_data": f"data:application/pdf;base64,{BINARY}\n{BINARY}\r\nQQ=="}},
        {"image_url": {"url": f"data:image/png;bytes=4930901820;sha256={'49309018' * 8},"}},
        {"input_audio": {"data": BINARY, "format": "wav"}},
        {"input_audio": {"data": f"data:audio/wav;bytes=3000;sha256={'49309018' * 8},", "format": "wav"}},
    ],
)
def test_binary_data_stay_as_they_are(part: dict[str, Any]) -> None:
    message = {"role": "user", "content": [{"type": "part"} | part]}
    assert redactor.message(message) == message


def test_the_arguments_of_a_tool_call_are_redacted_behind_their_escapes() -> None:
    arguments = '{"note": "line\\n+49 30 901820", "mail": "a\\u0040example.com", "phone": "612345678", "order": 48213}'
    call = {
        "id": "call_4111111111111111",
        "type": "function",
        "function": {"name": "note_down", "arguments": arguments},
    }
    redacted = redactor.message({"role": "assistant", "content": None, "tool_calls": [call]})["tool_calls"][0]
    assert redacted["id"] == call["id"]
    assert json.loads(redacted["function"]["arguments"]) == {
        "note": "line\n[phone]",
        "mail": "[email]",
        "phone": "[phone]",
        "order": 48213,
    }


def test_arguments_without_personal_data_stay_as_they_were_written() -> None:
    arguments = '{ "order" : 48213 }'
    message = {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": arguments}}]}
    assert redactor.message(message) == message


@pytest.mark.parametrize("arguments", ['{"order": 48213, "mail": "a@example.com"', "a@example.com", ""])
def test_arguments_that_are_no_json_are_redacted_as_text(arguments: str) -> None:
    message = {"role": "assistant", "tool_calls": [{"function": {"arguments": arguments}}]}
    assert "example" not in str(redactor.message(message))


def test_a_tool_keeps_its_name() -> None:
    assert redactor.message({"role": "tool", "name": "look_up", "content": "ok"})["name"] == "look_up"


def test_keys_and_numbers_of_nested_json_are_redacted_and_no_value_is_lost() -> None:
    value = {"a@example.com": 1, "b@example.com": [4111111111111111, True, None, 1.5], "id": "c@example.com"}
    assert redactor.value(value) == {"[email]": 1, "[email] 2": ["[card]", True, None, 1.5], "id": "[email]"}


@settings(max_examples=100)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | PIECES,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(PIECES, inner, max_size=3),
        max_leaves=8,
    )
)
@example({"+491701234567": 1_000_000})  # a key that becomes "[phone]" says what its number is
def test_redacting_json_twice_changes_nothing(value: Any) -> None:
    once = redactor.value(value)
    assert redactor.value(once) == once


def test_deep_nesting_is_cut_and_not_an_error() -> None:
    value: Any = "a@example.com"
    for _ in range(MAX_DEPTH + 500):
        value = [value]
    text = str(redactor.value(value))
    assert "[too deep]" in text
    assert "example" not in text


def test_many_keys_that_become_the_same_are_told_apart_in_no_time() -> None:
    value = {f"a{number}@example.com": number for number in range(30_000)}
    redacted = redactor.value(value)
    assert list(redacted.values()) == list(value.values())
    assert list(redacted)[-1] == "[email] 30000"


def test_texts_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    redact, asked = personal_data.without_personal_data, list[str]()

    def counted(text: str, *rest: Any) -> str:
        asked.append(text)
        return redact(text, *rest)

    monkeypatch.setattr(personal_data, "without_personal_data", counted)
    fresh = Redactor(b"k")
    for _ in range(3):
        assert fresh.text("call +49 30 901820") == "call [phone]"
        fresh.text("nothing here")
        assert fresh.text("612 345 678") != fresh.text("612 345 678", "es-ES")
    assert len(asked) == 4


def test_what_is_remembered_is_bounded_by_bytes() -> None:
    fresh = Redactor(b"k")
    for number in range(200):
        fresh.text(f"{number} " + "x" * (CACHED_BYTES // 50))
    assert 10 < len(fresh._remembered) <= 50


CHAIN = "030 1234567\xa0"
"""Repeated, each lets the next be found where redaction takes many passes."""


@pytest.mark.parametrize("text", ["12345678901 " * 500, "x" * 60_000 + "1"])
def test_what_would_take_long_is_said_to_be_too_much(text: str) -> None:
    with pytest.raises(TooMuchWork):
        redactor.within(5_000).text(text)


def test_work_is_limited_for_all_texts_of_a_call_together() -> None:
    limited = Redactor(b"k").within(5_000)
    with pytest.raises(TooMuchWork):
        limited.messages([{"role": "user", "content": f"{number} is what I paid on 3.5.2026"} for number in range(200)])
    with pytest.raises(TooMuchWork):
        Redactor(b"k").within(5_000).value([{}] * 10_000)


def test_what_is_remembered_is_no_work() -> None:
    fresh = Redactor(b"k")
    history = [{"role": "user", "content": f"call +49 30 9018{number:02}"} for number in range(100)]
    redacted = fresh.messages(history)
    assert fresh.within(1_000).messages(history) == redacted


@settings(max_examples=100)
@given(st.lists(PIECES).map("".join))
def test_limited_work_gives_the_same_text(text: str) -> None:
    assert Redactor(b"k").within(10**9).text(text) in (redactor.text(text),)
