"""Bytes in, a JSON object out, or Refusal. Nothing is lost on the way: a key that stands there twice is refused.

What programs do to good JSON is undone: a byte order mark goes, and half of a surrogate pair (an emoji that was cut in two)
becomes U+FFFD, as in every text that is shown; how many were is counted.
"""

from __future__ import annotations

import json
import re
from typing import Any

import msgspec

from feedback.intake.refusal import Refusal

MAX_EVENT_BYTES = 1_000_000  # what a Kafka broker takes by default
BOM = b"\xef\xbb\xbf"

_COLON = re.compile(rb'"\s*:')
_BEFORE = re.compile(rb"(?:\xef\xbb\xbf|\s)*+")
_ESCAPE = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(u[dD][89a-fA-F][0-9a-fA-F]{2})|.)", re.DOTALL
)
_MAYBE_HALF = re.compile(rb"\\u[dD][89a-fA-F]")
_HALF = re.compile("[\ud800-\udfff]")


def load(raw: bytes) -> tuple[dict[str, Any], int]:
    """The object, and how many halves of surrogate pairs were replaced. Raises Refusal."""
    if len(raw) > MAX_EVENT_BYTES:
        raise Refusal("too_large", "", f"{len(raw)} bytes; at most {MAX_EVENT_BYTES} are taken")
    replaced = 0
    try:
        document = msgspec.json.decode(raw)
    except RecursionError:
        raise too_deep() from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        raw, replaced = repaired(raw)
        document = _decoded(raw)
    if not isinstance(document, dict):
        several = ": send the events of a list one by one" if isinstance(document, list) else ""
        raise Refusal("not_an_object", "", f"JSON, but no object{several}")
    refuse_duplicate_keys(raw, document)
    return document, replaced


def repaired(raw: bytes) -> tuple[bytes, int]:
    """JSON without byte order mark, with U+FFFD for each half of a surrogate pair, and how many there were."""
    raw = raw[_BEFORE.match(raw).end() :]  # type: ignore[union-attr]  # it matches nothing, too
    replaced = 0
    if b"\xed" in raw and (text := _with_halves(raw)) is not None:
        whole, replaced = _HALF.subn("\ufffd", text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass"))
        raw = whole.encode()

    if _MAYBE_HALF.search(raw) is None:
        return raw, replaced

    def replacement(escape: re.Match[bytes]) -> bytes:
        nonlocal replaced
        if escape[1] is None:
            return escape[0]
        replaced += 1
        return rb"\ufffd"

    return _ESCAPE.sub(replacement, raw), replaced


def _with_halves(raw: bytes) -> str | None:
    """Text in which halves of pairs were written as if each were a character; None where it is no UTF-8 otherwise either."""
    try:
        return raw.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return None


def _decoded(raw: bytes) -> Any:
    try:
        return msgspec.json.decode(raw)
    except RecursionError:
        raise too_deep() from None
    except UnicodeDecodeError as error:
        raise _bad_utf8(error) from None
    except msgspec.DecodeError as error:
        try:
            raw.decode("utf-8")
        except UnicodeDecodeError as bad:
            raise _bad_utf8(bad) from None
        raise Refusal("bad_json", "", f"no valid JSON: {error}") from None


def _bad_utf8(error: UnicodeDecodeError) -> Refusal:
    return Refusal("bad_utf8", "", f"no UTF-8 at byte {error.start}")


def too_deep() -> Refusal:
    """The refusal of what is nested too deeply."""
    return Refusal("too_deep", "", "nested too deeply")


def written_keys(raw: bytes) -> int:
    """How many keys may be written there: at least as many as are."""
    return len(_COLON.findall(raw))


def refuse_duplicate_keys(raw: bytes, document: dict[str, Any]) -> None:
    """Raises Refusal where a key of the object that `raw` holds stands there twice, at any depth."""
    if written_keys(raw) > _count_keys(document):
        _look_for_duplicate_keys(raw)


def _count_keys(document: dict[str, Any]) -> int:
    keys, values = len(document), list(document.values())
    for value in values:  # grows meanwhile
        if type(value) is dict:
            keys += len(value)
            values += value.values()
        elif type(value) is list:
            values += value
    return keys


def _look_for_duplicate_keys(raw: bytes) -> None:
    """The slow, exact check; most events never need it (a `":` inside a text does)."""

    def check(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        seen = dict(pairs)
        if len(seen) < len(pairs):
            names = [name for name, _ in pairs]
            twice = next(name for name in names if names.count(name) > 1)
            raise Refusal("duplicate_key", twice, f"the key {twice!r} stands there twice")
        return seen

    try:
        json.loads(raw, object_pairs_hook=check)
    except RecursionError:
        raise too_deep() from None
    except ValueError:  # stricter or laxer than msgspec in a corner: it was valid JSON there
        return
