"""Pictures are logged as what they were: kind, length and hash, and the text beside them stays."""

from __future__ import annotations

import base64
import copy
import hashlib
from typing import Any
from urllib.parse import quote_from_bytes

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.gateway.data_urls import LONGEST, message_without_data, without_data

PICTURE = bytes(range(256)) * 40
URL = "data:image/png;base64," + base64.b64encode(PICTURE).decode()
TOLD = f"bytes={len(PICTURE)};sha256={hashlib.sha256(PICTURE).hexdigest()},"


def part(url: str) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": url, "detail": "low"}}


def told(url: str) -> str:
    [message] = without_data([{"role": "user", "content": [part(url)]}])
    return str(message["content"][0]["image_url"]["url"])


def test_a_picture_keeps_its_kind_its_length_and_its_hash() -> None:
    asked = [{"role": "user", "content": [{"type": "text", "text": "What is it?"}, part(URL)]}]
    before = copy.deepcopy(asked)
    [message] = without_data(asked)
    assert message["content"] == [{"type": "text", "text": "What is it?"}, part(f"data:image/png;{TOLD}")]
    assert asked == before


@pytest.mark.parametrize(
    ("url", "head"),
    [
        ("DATA:image/jpeg;BASE64," + base64.b64encode(PICTURE).decode(), "data:image/jpeg;"),
        ("data:image/svg+xml;charset=utf-8," + quote_from_bytes(PICTURE), "data:image/svg+xml;charset=utf-8;"),
        ("data:," + quote_from_bytes(PICTURE), "data:text/plain;"),
        ("data:;base64," + base64.b64encode(PICTURE).decode(), "data:text/plain;"),
    ],
)
def test_whatever_way_it_is_written(url: str, head: str) -> None:
    assert told(url) == head + TOLD


def test_what_is_no_base64_counts_as_it_stands() -> None:
    assert told("data:image/png;base64," + "x" * 2_001).startswith("data:image/png;bytes=2001;sha256=")


def test_sound_and_files_are_cut_too_and_so_is_what_a_reply_holds() -> None:
    data = base64.b64encode(PICTURE).decode()
    sound = {"type": "input_audio", "input_audio": {"data": data, "format": "wav"}}
    file = {"type": "file", "file": {"filename": "a.pdf", "file_data": URL.replace("image/png", "application/pdf")}}
    [message] = without_data([{"role": "user", "content": [sound, file]}])
    assert message["content"][0]["input_audio"] == {"data": f"data:audio/wav;{TOLD}", "format": "wav"}
    assert message["content"][1]["file"] == {"filename": "a.pdf", "file_data": f"data:application/pdf;{TOLD}"}
    reply = message_without_data({"role": "assistant", "content": "Here.", "images": [part(URL)]})
    assert reply == {"role": "assistant", "content": "Here.", "images": [part(f"data:image/png;{TOLD}")]}


@pytest.mark.parametrize(
    "message",
    [
        {"role": "user", "content": URL},
        {"role": "user", "content": [{"type": "text", "text": URL}]},
        {"role": "user", "content": [part("https://example.com/" + "x" * LONGEST)]},
        {"role": "user", "content": [part(URL[:LONGEST])]},
        {"role": "user", "content": [part("data:" + "x" * LONGEST)]},
        {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "f", "arguments": URL[5:]}}]},
    ],
)
def test_what_is_text_an_address_or_small_stays(message: dict[str, Any]) -> None:
    assert without_data([message]) == [message]


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text() | st.just(URL),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    )
)
def test_messages_of_any_shape_are_taken_and_twice_changes_nothing(content: Any) -> None:
    once = without_data([{"role": "user", "content": content}])
    assert without_data(once) == once


def test_brackets_without_end_do_not_matter() -> None:
    deep: Any = URL
    for _ in range(900):
        deep = [deep]
    assert without_data([{"role": "user", "content": deep}])
