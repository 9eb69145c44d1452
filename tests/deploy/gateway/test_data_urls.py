"""Pictures are logged as what they were: kind, length and hash, and the text beside them stays."""

from __future__ import annotations

import base64
import copy
import hashlib
import textwrap
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.gateway import data_urls
from deploy.gateway.data_urls import AT_ONCE, LONGEST, logged, message_without_data, without_data

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
        (
            "data:image/png;base64,\n" + "\n".join(textwrap.wrap(base64.b64encode(PICTURE).decode(), 77)),
            "data:image/png;",
        ),
        ("data:;base64," + base64.b64encode(PICTURE).decode(), "data:text/plain;"),
    ],
)
def test_whatever_way_it_is_written(url: str, head: str) -> None:
    assert told(url) == head + TOLD


@pytest.mark.parametrize(
    ("head", "kind"), [("image/svg+xml;charset=utf-8", "image/svg+xml;charset=utf-8"), ("", "text/plain")]
)
def test_what_is_written_in_percents_counts_as_it_stands(head: str, kind: str) -> None:
    data = "%20" * 2_000_000
    assert (
        told(f"data:{head},{data}") == f"data:{kind};bytes=6000000;sha256={hashlib.sha256(data.encode()).hexdigest()},"
    )


@given(st.binary(min_size=LONGEST, max_size=5_000), st.integers(1, 700))
def test_the_hash_is_that_of_the_whole_whatever_its_pieces(content: bytes, piece: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(data_urls, "_PIECE", piece)
        hashed = told("data:image/png;base64," + base64.b64encode(content).decode())
    assert hashed == f"data:image/png;bytes={len(content)};sha256={hashlib.sha256(content).hexdigest()},"


async def test_a_big_picture_is_hashed_off_the_loop_and_a_small_one_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    hashed_in = set[int]()
    hashed = data_urls._hashed

    def noted(pieces: Iterator[bytes]) -> tuple[int, str]:
        hashed_in.add(threading.get_ident())
        return hashed(pieces)

    monkeypatch.setattr(data_urls, "_hashed", noted)
    small, big = ([{"role": "user", "content": [part(URL[:2_000] + "QUJD" * n)]}] for n in (1, AT_ONCE))
    assert await logged(small) == without_data(small)
    assert hashed_in == {threading.get_ident()}
    hashed_in.clear()
    kept = await logged(big)
    assert threading.get_ident() not in hashed_in
    assert kept == without_data(big)


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
