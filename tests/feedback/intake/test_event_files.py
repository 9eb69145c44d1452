"""Reading recorded events: bounded memory, and every line accounted for even where the file is broken."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

import pytest

from feedback.intake.contract import MAX_EVENT_BYTES
from feedback.intake.event_files import lines


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
