"""Reading recorded events: bounded memory, and every line accounted for even where the file is broken."""

from __future__ import annotations

import gzip
import json
import tracemalloc
import zlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feedback.intake.arrays import Elements
from feedback.intake.contract import MAX_EVENT_BYTES
from feedback.intake.decoding import BOM
from feedback.intake.event_files import Line, lines

EVENTS: list[Any] = [
    {"a": 1, "texts": ["]", "}, {", '"', "\\", "tail \\\\"], "inner": [[], {}, [{"b": [1, 2]}]]},
    {"b": "zwölf, and\nanother line"},
    {},
    {"c": None, "d": -1.5e3},
]


@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.gz"])
def test_lines_are_numbered_and_blank_ones_are_nothing(tmp_path: Path, suffix: str) -> None:
    content = b'{"a":1}\n\n  \r\n{"b":2}\r\n{"c":3}'
    path = tmp_path / f"events{suffix}"
    path.write_bytes(gzip.compress(content) if suffix.endswith("gz") else content)
    assert [(line.number, line.raw) for line in lines(path)] == [(1, b'{"a":1}'), (4, b'{"b":2}'), (5, b'{"c":3}')]


def test_a_truncated_gzip_gives_what_it_holds_and_one_rejected_line(tmp_path: Path) -> None:
    whole = b"".join(b'{"n": %d}\n' % n for n in range(20_000))
    path = tmp_path / "events.jsonl.gz"
    path.write_bytes(gzip.compress(whole)[:-2_000])
    held = zlib.decompressobj(wbits=31).decompress(path.read_bytes())
    found = list(lines(path))
    assert [line.raw for line in found[:-1]] == held.splitlines()[: held.count(b"\n")]
    assert all(line.rejected is None for line in found[:-1])
    assert found[-1].rejected is not None
    assert found[-1].rejected.code == "truncated_file"
    assert str(found[-1].number) in found[-1].rejected.message


def test_a_corrupt_gzip_gives_one_rejected_line(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl.gz"
    path.write_bytes(b"\x1f\x8bthis is no gzip stream at all, only its first two bytes are")
    (line,) = lines(path)
    assert line.rejected is not None
    assert line.rejected.code in ("unreadable_file", "truncated_file")


def test_an_oversize_line_is_rejected_and_the_next_one_is_read(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(b"x" * (10 * MAX_EVENT_BYTES) + b'\n{"a":1}\n')
    big, small = lines(path)
    assert big.rejected is not None
    assert big.rejected.code == "too_large"
    assert str(10 * MAX_EVENT_BYTES + 1) in big.rejected.message  # its newline counts
    assert len(big.raw) == MAX_EVENT_BYTES + 1
    assert small.raw == b'{"a":1}'


def test_progress_ends_at_the_size_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(b"{}\n" * 100)
    told: list[int] = []
    list(lines(path, told.append))
    assert told[-1] == path.stat().st_size


def read(path: Path, content: bytes) -> list[Line]:
    path.write_bytes(content)
    return list(lines(path))


def test_a_byte_order_mark_at_the_start_of_a_file_or_a_line_is_nothing(tmp_path: Path) -> None:
    found = read(tmp_path / "events.jsonl", BOM + b'{"a":1}\r\n' + BOM + b'{"b":2}\n' + BOM + b'\n{"c":3}\n' + BOM)
    assert [(line.number, line.raw) for line in found] == [(1, b'{"a":1}'), (2, b'{"b":2}'), (4, b'{"c":3}')]
    assert read(tmp_path / "events.jsonl", BOM + b" [" + b'{"a":1}]') == [Line(1, b'{"a":1}')]


@pytest.mark.parametrize("indent", [None, 0, 2, "\t"])
@pytest.mark.parametrize("before", [b"", BOM, b"\n \r\n", BOM + b"\r\n"])
@pytest.mark.parametrize("compress", [bytes, gzip.compress])
def test_an_array_gives_its_elements(tmp_path: Path, indent: Any, before: bytes, compress: Any) -> None:
    for ascii_only in (True, False):
        array = json.dumps(EVENTS, indent=indent, ensure_ascii=ascii_only).encode()
        found = read(tmp_path / "events.json", compress(before + array + b"\n\n"))
        assert [line.number for line in found] == [1, 2, 3, 4]
        assert [json.loads(line.raw) for line in found] == EVENTS
        assert all(line.rejected is None for line in found)


def test_an_empty_array_holds_nothing_and_an_empty_file_too(tmp_path: Path) -> None:
    for content in (b"[]", b"[\n]\n", b"", b"\n\n", BOM):
        assert read(tmp_path / "events.json", content) == []


def test_a_broken_element_is_one_line_and_those_around_it_are_read(tmp_path: Path) -> None:
    array = b'[{"a":1},\n{"b":,},\n17,\n{"c":3},\n]\n'  # a comma behind the last one is forgiven
    assert [line.raw for line in read(tmp_path / "events.json", array)] == [b'{"a":1}', b'{"b":,}', b"17", b'{"c":3}']


def test_lines_behind_an_array_are_read_as_lines(tmp_path: Path) -> None:
    found = read(tmp_path / "events.jsonl", b'[{"a":1}] {"b":2}\n{"c":3}\n[{"d":4}]')
    assert [line.raw for line in found] == [b'{"a":1}', b'{"b":2}', b'{"c":3}', b'[{"d":4}]']
    assert [line.number for line in found] == [1, 2, 3, 4]


def test_a_first_line_that_is_a_list_of_something_else_stays_one_line(tmp_path: Path) -> None:
    found = read(tmp_path / "events.jsonl", b'[1, 2]\n{"a":1}\n')
    assert [(line.number, line.raw) for line in found] == [(1, b"[1, 2]"), (2, b'{"a":1}')]


@pytest.mark.parametrize(
    ("end", "kept"), [(b',\n {"c": [1', b'{"c": [1'), (b',\n {"c": "x', b'{"c": "x'), (b"", b'{"b":2}')]
)
def test_an_array_that_breaks_off_gives_what_it_holds_and_one_rejected_line(
    tmp_path: Path, end: bytes, kept: bytes
) -> None:
    found = read(tmp_path / "events.json", b'[{"a":1}, {"b":2}' + end)
    assert all(line.rejected is None for line in found[:-1])
    assert found[0].raw == b'{"a":1}'
    assert found[-1].rejected is not None
    assert found[-1].rejected.code == "truncated_file"
    assert f"events.json is an array that breaks off in event {len(found)}" in found[-1].rejected.message
    assert found[-1].raw == kept


def test_an_oversize_element_is_rejected_and_the_next_one_is_read_in_bounded_memory(tmp_path: Path) -> None:
    path = tmp_path / "events.json"
    big = b'{"x": "' + b'\\"' * (10 * MAX_EVENT_BYTES) + b'"}'
    path.write_bytes(b"[" + big + b',{"a":1}' * 1_000 + b"]")
    del big
    tracemalloc.start()
    try:
        found = [(line.raw[:10], line.rejected) for line in lines(path)]
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert found[0][1] is not None
    assert found[0][1].code == "too_large"
    assert str(20 * MAX_EVENT_BYTES + 9) in found[0][1].message
    assert found[1:] == [(b'{"a":1}', None)] * 1_000
    assert peak < 6 * MAX_EVENT_BYTES


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be"])
def test_a_file_in_utf_16_is_refused_by_that_name(tmp_path: Path, encoding: str) -> None:
    mark = "" if encoding == "utf-16" else "\ufeff"
    (line,) = read(tmp_path / "events.jsonl", (mark + '{"a":1}\n{"b":2}\n').encode(encoding))
    assert line.rejected is not None
    assert line.rejected.code == "unreadable_file"
    assert "UTF-16" in line.rejected.message


json_values = st.recursive(
    st.none() | st.integers() | st.text(st.sampled_from('a"\\[]{},:\n\u00e4'), max_size=6),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(st.sampled_from('a"\\]'), max_size=3), inner, max_size=3)
    ),
    max_leaves=8,
)


@settings(max_examples=100)
@given(
    st.lists(json_values, max_size=5),
    st.sampled_from([None, 1]),
    st.lists(st.integers(1, 9), max_size=40),
    st.booleans(),
)
def test_an_array_may_come_in_any_pieces(values: list[Any], indent: Any, sizes: list[int], ascii_only: bool) -> None:
    raw = json.dumps(values, indent=indent, ensure_ascii=ascii_only).encode() + b" rest"
    elements, found = Elements(), []
    for size in [*sizes, len(raw)]:
        if elements.after is None:
            found += [json.loads(element) for element, _ in elements.of(raw[:size])]
            raw = raw[size:]
    assert found == values
    assert (elements.after or b"") + raw == b" rest"


@settings(max_examples=100)
@given(st.binary(max_size=60) | st.text(st.sampled_from('a"\\[]{},\n '), max_size=40).map(str.encode))
def test_whatever_a_file_holds_each_of_its_lines_is_a_line(
    tmp_path_factory: pytest.TempPathFactory, raw: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.jsonl"
    for line in read(path, raw):
        assert line.raw or line.rejected
