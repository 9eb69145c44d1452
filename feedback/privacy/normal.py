"""A text as the patterns see it, and the way back: compatibility forms, dashes, spaces and digits of all scripts are made one.

Each character is normalised by itself, so that a stretch of the normal text is a stretch of the original.
"""

from __future__ import annotations

import unicodedata
from typing import NamedTuple

_DASHES = dict.fromkeys(map(ord, "\u2010\u2011\u2012\u2013\u2014\u2015\u2212\u2043\ufe58\ufe63"), "-")
_DOTS = dict.fromkeys(map(ord, "\u3002\u2024\uff61"), ".")
_IGNORED = frozenset("\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180e\u2060\u2061\u2062\u2063\u2064\ufeff\u3164\uffa0")


class _Table(dict[int, str]):
    """What stands for a character, worked out when it is first seen; `uneven` are those that become none or several."""

    def __init__(self) -> None:
        super().__init__(_DASHES)
        self.update(_DOTS)
        self.uneven: set[str] = set()

    def __missing__(self, code: int) -> str:
        character = chr(code)
        plain = _plain(character)
        if len(plain) != 1:
            self.uneven.add(character)
        self[code] = plain
        return plain


class Normal(NamedTuple):
    """`text` is what to look at; `starts` says where its characters begin in the original, None: at the same places."""

    text: str
    starts: list[int] | None

    def place(self, start: int, end: int) -> tuple[int, int]:
        """The stretch of the original that became text[start:end], which is not empty."""
        if self.starts is None:
            return start, end
        return self.starts[start], self.starts[end - 1] + 1


def normalised(text: str) -> Normal:
    """The text in normal form, with the map back."""
    if text.isascii():
        return Normal(text, None)
    plain = text.translate(_TABLE)
    if _TABLE.uneven.isdisjoint(text):
        return Normal(plain, None)
    starts = [place for place, character in enumerate(text) for _ in _TABLE[ord(character)]]
    return Normal(plain, starts)


def _plain(character: str) -> str:
    if character in _IGNORED or "\u200b" <= character <= "\u200f" or "\u202a" <= character <= "\u202e":
        return ""
    if character.isdecimal():
        return str(int(character))
    category = unicodedata.category(character)
    if category == "Zs":
        return " "
    if category == "Cs":
        return character
    return unicodedata.normalize("NFKC", character)


_TABLE = _Table()
