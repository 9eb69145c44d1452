"""Text for a terminal: what other people wrote is shown, never obeyed."""

from __future__ import annotations

import unicodedata
from datetime import UTC, datetime

from rich.markup import escape

KEPT = "\n\t"


def plain(text: str) -> str:
    """Text without control, format or surrogate characters (so no ANSI sequences, no bidi tricks)."""
    return "".join(
        character if character in KEPT or unicodedata.category(character) not in ("Cc", "Cf", "Cs") else "\ufffd"
        for character in text
    )


def shown(text: str, width: int = 2_000) -> str:
    """Somebody's text, cut and safe to print with rich."""
    safe = plain(text)
    return escape(safe if len(safe) <= width else safe[: width - 1] + "…")


def moment(at_us: int) -> str:
    """A time for a person, UTC."""
    return f"{datetime.fromtimestamp(at_us / 1e6, UTC):%Y-%m-%d %H:%M:%S} UTC"


def iso(at_us: int) -> str:
    """A time for a program, RFC 3339."""
    return datetime.fromtimestamp(at_us / 1e6, UTC).isoformat().replace("+00:00", "Z")


def ago(seconds: float) -> str:
    """How long ago, roughly."""
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit} ago"
    return f"{max(0, seconds):.0f} s ago"
