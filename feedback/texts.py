"""When two texts say the same, and when a text says nothing."""

from __future__ import annotations

import re
import unicodedata

_IGNORABLE = (
    "\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0"
    "\ufff0-\ufffc\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)
"""What Unicode calls default ignorable (soft hyphens, Hangul fillers, zero widths, directions, variation selectors, tags), and
marks between lines and for objects that are not there."""
_CONTROLS = "\x00-\x1f\x7f-\x9f"
_SPACES = "\\s\u2800"
_BLANK = re.compile(f"[{_SPACES}{_CONTROLS}{_IGNORABLE}]*")
_SPACE = re.compile(f"[{_SPACES}{_CONTROLS}]+")
_JOINED = "[\u0590-\u1fff\u2190-\u2bff\u2c00-\U0003ffff]"  # scripts and emoji in which a joiner shows
_HIDDEN = re.compile(f"(?!(?<={_JOINED})[\u200c\u200d]{_JOINED}|(?<=[\ufe0e\ufe0f])\u200d{_JOINED})[{_IGNORABLE}]")


def first_visible(text: str, start: int = 0) -> int:
    """Where the first character stands, from `start` on, that is to be seen; the length where none does."""
    blank = _BLANK.match(text, start)
    return blank.end() if blank else start


def is_blank(text: str) -> bool:
    """Whether there is nothing to be seen: only spaces, controls and characters without a width.

    >>> is_blank("\\u200b\\ufeff \\u2800"), is_blank("\\u200bok"), is_blank("")
    (True, False, True)
    """
    return not "!" <= text[:1] <= "~" and first_visible(text) == len(text)  # most begin with ASCII


def normal_form(text: str) -> str:
    """What a text says, whatever its Unicode form, its line ends, its spaces and what is not to be seen in it.

    Composed (NFC; compatibility forms stay, x² is not x2); characters without a width are gone, but for joiners in scripts
    and emoji in which they show; every run of white space is one space, and none is at the ends.

    >>> normal_form("Cafe\\u0301\\r\\n at\\u00a0nine. "), normal_form("now here") == normal_form("nowhere")
    ('Café at nine.', False)
    """
    if text.isascii():
        return " ".join(_SPACE.sub(" ", text).split())
    composed = unicodedata.normalize("NFC", _HIDDEN.sub("", unicodedata.normalize("NFC", text)))
    return " ".join(_SPACE.sub(" ", composed).split())


def storable(text: str) -> str:
    """Without what some database does not take: half a character, and the one that is none.

    >>> storable("a\\ud83d\\0b")
    'a?\ufffdb'
    """
    return text.encode("utf-8", "replace").decode().replace("\0", "\ufffd")
