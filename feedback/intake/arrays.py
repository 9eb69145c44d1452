"""One JSON array of events, as its elements come: only the one that is being read is in memory.

Where an element ends is told by brackets and quotes alone; whether it is JSON, and an event, is asked of each by itself, so
that a broken one is one dead letter and not the rest of the file.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from feedback.intake.decoding import MAX_EVENT_BYTES

_TOKEN = re.compile(rb'"(?:[^"\\]++|\\.)*+"|["\[\]{},]', re.DOTALL)
_REST_OF_TEXT = re.compile(rb'(?:[^"\\]++|\\.)*+', re.DOTALL)
_BEGINS = re.compile(rb"\s*\[\s*(?:\{|\]|\Z)")


def begins_array(head: bytes) -> bool:
    """Whether a file that begins so, behind its blank lines, is an array of objects."""
    return _BEGINS.match(head) is not None


class Elements:
    """Takes an array's bytes as they come, in pieces of any size, and gives its elements.

    >>> elements = Elements()
    >>> [*elements.of(b'[{"a": "]'), *elements.of(b'"},\\n 2'), *elements.of(b"] rest")]
    [(b'{"a": "]"}', 0), (b'2', 0)]
    >>> elements.after
    b' rest'
    """

    def __init__(self) -> None:
        self.after: bytes | None = None
        """What came behind the end of the array; None: it has not ended."""
        self._element = bytearray()
        self._size = 0
        """Of the element, which is cut once it is larger than an event may be."""
        self._depth = 0
        self._in_text = False
        self._held = b""
        """A backslash of which the other half may come."""

    @property
    def unfinished(self) -> bytes:
        """What there is of an element that has not ended."""
        return bytes(self._element).strip()

    def of(self, piece: bytes) -> Iterator[tuple[bytes, int]]:
        """The elements that end in this piece, each cut after MAX_EVENT_BYTES + 1, and its size in bytes where it was cut."""
        piece, begin, at = self._held + piece, 0, 0
        self._held = b""
        if self._in_text:
            at = self._through_text(piece, 0)
        while (token := _TOKEN.search(piece, at)) is not None:
            mark, at = token[0], token.end()
            if mark == b'"':
                self._in_text = True
                at = self._through_text(piece, at)
            elif mark in (b"{", b"["):
                self._depth += 1
                begin = at if self._depth == 1 else begin
            elif mark in (b"}", b"]"):
                self._depth -= 1
            if self._depth == 0 or (self._depth == 1 and mark == b","):
                self._keep(piece[begin : token.start()])
                begin = at
                yield from self._ended()
            if self._depth == 0:
                self.after = piece[at:]
                return
        self._keep(piece[begin : len(piece) - len(self._held)])

    def _through_text(self, piece: bytes, at: int) -> int:
        """Where the text ends that `at` is in, or else this piece."""
        end = _REST_OF_TEXT.match(piece, at).end()  # type: ignore[union-attr]  # it matches nothing, too
        self._in_text = piece[end : end + 1] != b'"'
        if not self._in_text:
            return end + 1
        self._held = piece[end:]
        return len(piece)

    def _keep(self, more: bytes) -> None:
        self._size += len(more)
        self._element += more[: MAX_EVENT_BYTES + 1 - len(self._element)]

    def _ended(self) -> Iterator[tuple[bytes, int]]:
        """Nothing between two commas is nothing, as a blank line is."""
        element, size = self.unfinished, self._size
        self._element.clear()
        self._size = 0
        if element:
            yield element, size if size > MAX_EVENT_BYTES else 0
