"""Why something is no event: a code to count by, the field at fault, and a sentence for whoever sent it."""

from __future__ import annotations

from typing import Any, Literal

from msgspec import Struct

Code = Literal[
    "bad_utf8",
    "bad_json",
    "too_large",
    "too_deep",
    "not_an_object",
    "duplicate_key",
    "unknown_kind",
    "unknown_schema",
    "missing_field",
    "wrong_type",
    "bad_value",
    "future",
    "too_old",
    "wrong_topic",
    "unsigned",
    "poison",
    "truncated_file",
    "unreadable_file",
]


class Rejected(Struct, frozen=True):
    """Why some bytes are no event: a code to count by, the field at fault ("" for the whole), a sentence."""

    code: Code
    field: str
    message: str


class Refusal(Exception):
    """Raised on the way to an event; whoever parses returns its `rejected`."""

    def __init__(self, code: Code, field: str, message: str) -> None:
        self.rejected = Rejected(code, field, message)


def shown(value: Any) -> str:
    """A value that somebody sent, short enough for a sentence."""
    if isinstance(value, dict | list):  # may be deeper than anything that walks through it
        return "an object" if isinstance(value, dict) else "a list"
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "…"
