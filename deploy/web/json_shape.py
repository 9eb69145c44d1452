"""What JSON's bytes tell as they come, before any of it is decoded: how many values, how deep, and what can't be kept.

A stranger's ten megabytes may be three million values, each of which is an object of Python's, and a loop that decodes or walks
through them answers nobody meanwhile. Here only whole pieces are looked at, with what bytes do by themselves; a body is
refused with the piece that holds too much, and the rest of it need not come.
"""

from __future__ import annotations

import re
from itertools import accumulate

from deploy.web.errors import ApiError, bad

MAX_DEPTH = 64
"""Lists and objects within each other."""
MAX_NODES = 50_000
"""Values and names. Two thousand messages with their parts, or a hundred tools, have a third of it."""
MAX_ESCAPES = 1_000_000
"""Backslashes in texts: each takes as long to decode as ten plain characters."""

Bytes = bytes | bytearray
SMALL_BYTES = 16_384
_PIECE_BYTES = 65_536
_BRACKETS_AT_ONCE = 1_000
_BRACKETS = b"[]{}"
_NO_BRACKETS = bytes(set(range(256)) - set(_BRACKETS))
_STEPS = [1 if byte in b"[{" else -1 for byte in range(256)]
_NUL = b"\\u0000"
_IN_NUMBERS = b"0123456789+-.eE"
_DIGITS_TO_0 = bytes.maketrans(b"123456789", b"0" * 9)
_MANY_DIGITS, _TOO_MANY_DIGITS = b"0" * 19, b"0" * 1_000
_LONGEST_NUMBER = 3 * len(_TOO_MANY_DIGITS) + 5
_WHOLE = re.compile(rb"(?<![0-9.eE+\-])(-?[0-9]{19,}+)(?![.eE])")


class Shape:
    """Add JSON as it comes, then `end`. Both raise ApiError once it is clear that it holds too much.

    What is no JSON has no shape: only for what can be decoded does it say anything. `what`: what messages call it.

    >>> shape = Shape("body")
    >>> shape.add(b'{"a": [1, "[["')
    >>> shape.add(b", 12345678901234567890123]}")
    >>> shape.end()
    >>> shape.nodes, shape.unkept
    (6, 'holds a whole number of more than 64 bits')
    """

    def __init__(self, what: str) -> None:
        self.nodes = 1
        """Values and names; an empty list or object counts as if something were in it."""
        self.unkept: str | None = None
        """What is in it that no record may hold; None: nothing."""
        self._what = what
        self._in_text = False
        self._held: Bytes = b""
        """An escape of which the end may be missing."""
        self._number: Bytes = b""
        """The same of a number."""
        self._quotes = self._escapes = self._opened = self._depth = 0

    def add(self, raw: Bytes) -> None:
        """The next bytes."""
        for at in range(0, len(raw), _PIECE_BYTES):
            self._add(raw[at : at + _PIECE_BYTES])

    def end(self) -> None:
        """That was all."""
        held, self._held = self._held, b""
        self._add_whole(held)
        self._look_for_numbers(self._number + b" ")

    def _add(self, piece: Bytes) -> None:
        if self._held:
            piece, self._held = self._held + piece, b""
        at = piece.rfind(b"\\", -len(_NUL))
        if at >= 0 and (at + 1 - len(piece[: at + 1].rstrip(b"\\"))) % 2:
            self._held, piece = piece[at:], piece[:at]
        self._add_whole(piece)

    def _add_whole(self, piece: Bytes) -> None:
        """A piece that ends in no escape."""
        if b"\\" in piece:
            piece = self._without_escapes(piece)
        between = piece.split(b'"')
        outside = between[1::2] if self._in_text else between[::2]
        self._in_text ^= len(between) % 2 == 0
        self._quotes += len(between) - 1
        if self._quotes > 2 * MAX_NODES:
            raise self._crowded()
        if outside:
            self._add_outside(b"".join(outside))

    def _without_escapes(self, piece: Bytes) -> Bytes:
        self._escapes += piece.count(b"\\")
        if self._escapes > MAX_ESCAPES:
            said = f"the {self._what} holds more than {MAX_ESCAPES} backslashes: write what can be written without"
            raise ApiError(413, "too_many_escapes", said)
        piece = piece.replace(b"\\\\", b"")
        if _NUL in piece:
            self.unkept = "holds a NUL character"
        return piece.replace(b'\\"', b"")

    def _add_outside(self, piece: Bytes) -> None:
        """What stands between texts."""
        brackets = piece.translate(None, _NO_BRACKETS)
        opened = brackets.count(b"[") + brackets.count(b"{")
        self._opened += opened
        if self._opened > MAX_DEPTH:  # else it can't be that deep
            self._check_depth(brackets)
        self._depth += 2 * opened - len(brackets)
        self.nodes += opened + piece.count(b",") + piece.count(b":")
        if self.nodes > MAX_NODES:
            raise self._crowded()
        piece = self._number + piece
        whole = len(piece.rstrip(_IN_NUMBERS))
        self._number = piece[whole:]
        self._look_for_numbers(piece[:whole])

    def _check_depth(self, brackets: Bytes) -> None:
        depth = self._depth
        for at in range(0, len(brackets), _BRACKETS_AT_ONCE):  # ten megabytes of them are told by the first few
            depths = list(accumulate(map(_STEPS.__getitem__, brackets[at : at + _BRACKETS_AT_ONCE]), initial=depth))
            if max(depths) > MAX_DEPTH:
                raise bad(f"the {self._what} is nested more than {MAX_DEPTH} deep", code="too_deep")
            depth = depths[-1]

    def _look_for_numbers(self, piece: Bytes) -> None:
        """In a piece that ends in none."""
        zeros = piece.translate(_DIGITS_TO_0)
        if len(self._number) > _LONGEST_NUMBER or _TOO_MANY_DIGITS in zeros:
            raise bad(f"the {self._what} holds a number of more than {len(_TOO_MANY_DIGITS)} digits")
        if _MANY_DIGITS in zeros and any(_huge(number) for number in _WHOLE.findall(piece)):
            self.unkept = "holds a whole number of more than 64 bits"

    def _crowded(self) -> ApiError:
        return bad(f"the {self._what} holds more than {MAX_NODES} values", code="too_many_values")


def harmless(raw: Bytes) -> bool:
    """Whether a document is so small and so flat that its Shape would find nothing; most are."""
    return (
        len(raw) <= SMALL_BYTES
        and raw.count(b"{") + raw.count(b"[") < MAX_DEPTH
        and _NUL not in raw
        and _MANY_DIGITS not in raw.translate(_DIGITS_TO_0)
    )


def _huge(number: Bytes) -> bool:
    return not -(2**63) <= int(number) < 2**64
