"""Recorded events, one a line or all in one JSON array, gzipped or not, in bounded memory, with what is wrong with a file."""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

from msgspec import Struct

from feedback.intake.arrays import Elements, begins_array
from feedback.intake.decoding import BOM, MAX_EVENT_BYTES
from feedback.intake.refusal import Code, Rejected

PIECE_BYTES = 1 << 16
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")


class Line(Struct, frozen=True):
    """One line that is not blank, or one element of an array (then `number` is its place, from 1).

    `rejected` says why it is no candidate for an event at all.
    """

    number: int
    raw: bytes
    rejected: Rejected | None = None


def lines(path: Path, progress: Callable[[int], object] = lambda _: None) -> Iterator[Line]:
    """The lines of a file; `progress` is told how many bytes of the file were read so far. Raises OSError.

    A file that is one JSON array of objects has a Line for each of them, numbered from 1. A file that breaks off (a truncated
    gzip) ends in one last Line that is rejected; what came before it counts.
    """
    with path.open("rb") as file:
        compressed = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        stream = (
            cast(BinaryIO, io.BufferedReader(_Unzipped(gzip.GzipFile(fileobj=file)), 1 << 16)) if compressed else file
        )
        reader = _Reader(stream, path.name)
        try:
            for line in reader.lines():
                progress(file.tell())
                yield line
        except EOFError:
            yield reader.broken("truncated_file", f"breaks off in {reader.place}")
        except (gzip.BadGzipFile, zlib.error) as error:
            yield reader.broken("unreadable_file", f"can't be decompressed from {reader.place} on: {error}")


class _Reader:
    """Reads one stream, and knows where it is."""

    def __init__(self, stream: BinaryIO, name: str) -> None:
        self._stream, self._name = stream, name
        self._number, self._what = 1, "line"
        """What is being read now."""

    @property
    def place(self) -> str:
        return f"{self._what} {self._number}"

    def broken(self, code: Code, what: str, raw: bytes = b"") -> Line:
        return Line(self._number, raw, Rejected(code, "", f"{self._name} {what}"))

    def lines(self) -> Iterator[Line]:
        head = self._head()
        if head.startswith(_UTF_16):
            yield self.broken("unreadable_file", "is UTF-16: write it anew as UTF-8, and feed that")
            return
        if begins_array(head):
            head = yield from self._elements(head)
        while True:
            raw, oversize = _read_line(self._stream, head)
            if not raw:
                return
            if (line := self._line(raw, oversize)) is not None:
                yield line
            self._number += 1
            head = b""

    def _head(self) -> bytes:
        """The beginning of the first line that is not blank."""
        while head := self._stream.readline(PIECE_BYTES):
            if bare := head.removeprefix(BOM).strip():
                return head if bare.startswith(_UTF_16) else head.removeprefix(BOM)
            self._number += head.endswith(b"\n")
        return head

    def _elements(self, piece: bytes) -> Generator[Line, None, bytes]:
        """A line for each element of the array that begins here; what stands behind it."""
        elements = Elements()
        self._number, self._what = 1, "event"
        while piece:
            for element, oversize in elements.of(piece):
                yield _candidate(self._number, element, oversize)
                self._number += 1
            if elements.after is not None:
                self._what = "line"
                return elements.after
            piece = self._stream.readline(PIECE_BYTES)
        yield self.broken("truncated_file", f"is an array that breaks off in {self.place}", elements.unfinished)
        return b""

    def _line(self, raw: bytes, oversize: int) -> Line | None:
        stripped = raw.strip()
        if stripped.startswith(BOM):  # files were put behind each other
            stripped = stripped.removeprefix(BOM).lstrip()
        return _candidate(self._number, raw if oversize else stripped, oversize) if stripped else None


def _candidate(number: int, raw: bytes, oversize: int) -> Line:
    if not oversize:
        return Line(number, raw)
    message = f"{oversize} bytes; at most {MAX_EVENT_BYTES} are taken (the first {len(raw)} are kept)"
    return Line(number, raw, Rejected("too_large", "", message))


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


def _read_line(stream: BinaryIO, head: bytes = b"") -> tuple[bytes, int]:
    """A line, of which the head was read already, cut after MAX_EVENT_BYTES, and its whole length where it was cut."""
    raw = head if head.endswith(b"\n") else head + stream.readline(MAX_EVENT_BYTES + 1 - len(head))
    if len(raw) <= MAX_EVENT_BYTES or raw.endswith(b"\n"):
        return raw, 0
    size = len(raw)
    while rest := stream.readline(1 << 20):
        size += len(rest)
        if rest.endswith(b"\n"):
            break
    return raw, size
