"""Recorded events: the lines of `.jsonl` and `.jsonl.gz` files, in bounded memory, with what is wrong with a file."""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

from msgspec import Struct

from feedback.intake.contract import MAX_EVENT_BYTES, Rejected


class Line(Struct, frozen=True):
    """One line that is not blank. `rejected` says why it is no candidate for an event at all."""

    number: int
    raw: bytes
    rejected: Rejected | None = None


def lines(path: Path, progress: Callable[[int], object] = lambda _: None) -> Iterator[Line]:
    """The lines of a file; `progress` is told how many bytes of the file were read so far. Raises OSError.

    A file that breaks off (a truncated gzip) ends in one last Line that is rejected; what came before it counts.
    """
    with path.open("rb") as file:
        compressed = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        stream = (
            cast(BinaryIO, io.BufferedReader(_Unzipped(gzip.GzipFile(fileobj=file)), 1 << 16)) if compressed else file
        )
        number = 0
        while True:
            number += 1
            try:
                raw, oversize = _read_line(stream)
            except EOFError:
                yield Line(number, b"", Rejected("truncated_file", "", f"{path.name} breaks off in line {number}"))
                return
            except (gzip.BadGzipFile, zlib.error) as error:
                message = f"{path.name} can't be decompressed from line {number} on: {error}"
                yield Line(number, b"", Rejected("unreadable_file", "", message))
                return
            if not raw:
                return
            progress(file.tell())
            stripped = raw.strip()
            if oversize:
                message = f"{oversize} bytes; at most {MAX_EVENT_BYTES} are taken (the first {len(raw)} are kept)"
                yield Line(number, raw, Rejected("too_large", "", message))
            elif stripped:
                yield Line(number, stripped)


class _Unzipped(io.RawIOBase):
    """A gzip's content as it comes: asked for a full buffer, GzipFile drops what it has when the file breaks off."""

    def __init__(self, file: gzip.GzipFile) -> None:
        self._file = file

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        got = self._file.read1(len(buffer))
        buffer[: len(got)] = got
        return len(got)


def _read_line(stream: BinaryIO) -> tuple[bytes, int]:
    """A line, cut after MAX_EVENT_BYTES, and its whole length where it was cut."""
    raw = stream.readline(MAX_EVENT_BYTES + 1)
    if len(raw) <= MAX_EVENT_BYTES or raw.endswith(b"\n"):
        return raw, 0
    size = len(raw)
    while rest := stream.readline(1 << 20):
        size += len(rest)
        if rest.endswith(b"\n"):
            break
    return raw, size
