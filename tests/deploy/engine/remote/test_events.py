"""Events come out whole, however their bytes came in."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deploy.engine.remote import events as module
from deploy.engine.remote.events import Events, TooLong

LINES = st.sampled_from(
    [b'data: {"a": 1}', b"data:x", b"data:  two spaces", b"data: \xc3\xbc", b": alive", b"event: error", b"id: 1", b"",
     b"data: [DONE]", b"data:", b"retry", b"data: a:b"]
)  # fmt: skip
ENDS = st.sampled_from([b"\n", b"\r\n"])
STREAMS = st.lists(st.tuples(LINES, ENDS).map(b"".join), max_size=12).map(b"".join)


def fed(pieces: list[bytes]) -> list[bytes]:
    events = Events()
    return [data for piece in pieces for data in events.feed(piece)]


@settings(max_examples=100)
@given(STREAMS, st.lists(st.integers(0, 200), max_size=20))
def test_any_split_of_the_bytes_gives_the_same_events(stream: bytes, cuts: list[int]) -> None:
    places = sorted({min(cut, len(stream)) for cut in cuts} | {0, len(stream)})
    pieces = [stream[one:other] for one, other in pairwise(places)]
    assert fed(pieces) == fed([stream]) == fed([bytes([byte]) for byte in stream])


def test_comments_and_other_fields_are_left_out_and_lines_of_data_are_one_event() -> None:
    assert fed([b": hello\r\nevent: x\ndata: a\r\ndata:b\nid: 7\n\n\n\ndata: c\n\n"]) == [b"a\nb", b"c"]


def test_half_an_event_is_none() -> None:
    assert fed([b"data: a\n\ndata: b\n"]) == [b"a"]


@pytest.mark.parametrize("endless", [b"x" * 10, b"data: x\n", b"data: x"])
def test_an_event_without_an_end_is_too_long(monkeypatch: pytest.MonkeyPatch, endless: bytes) -> None:
    monkeypatch.setattr(module, "MAX_EVENT_BYTES", 1_000)
    with pytest.raises(TooLong, match="1,000 bytes"):
        fed([endless] * 2_000)


def test_an_event_without_an_end_of_empty_lines_of_data_is_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_EVENT_BYTES", 1_000)
    with pytest.raises(TooLong):
        Events().feed(b"data:\n" * 2_000)
