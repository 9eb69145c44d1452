"""Addresses of machines: IPv4, IPv6 and MAC."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator

import re2

Span = tuple[int, int, str]
"""Where it begins and ends, and its marker."""

_COLONS = re2.compile(rb"[0-9A-Fa-f.]*:[0-9A-Fa-f:.]*")
_DOTTED = re2.compile(rb"[0-9]+(?:\.[0-9]+){3,}")
_PAIRS = re2.compile(rb"[0-9A-Fa-f]{2}(?:-[0-9A-Fa-f]{2})+|[0-9A-Fa-f]{4}(?:\.[0-9A-Fa-f]{4})+")
_MAC = re.compile(r"(?:[0-9a-f]{2}[:\-]){5}[0-9a-f]{2}|[0-9a-f]{4}\.[0-9a-f]{4}\.[0-9a-f]{4}", re.I)
_VERSION = re.compile(
    r"(?:(?<![^\W\d_])(?:v|ver|vers|version|versión|versione|versie|wersja|firmware|release|build|update|driver|oid)"
    r"|版本|固件|バージョン|버전|версия)[.: ]{0,3}\Z",
    re.I,
)
_PROGRAM = re.compile(
    r"(?<![^\W_])(?!(?:From|IP|IPv4|Host|Server|Address|Adresse|Von|Ip|At|The|Is|On|My|To)\b)[A-Z][A-Za-z]+ \Z"
)
_LOW = 32
_LONGEST = 45


def addresses(text: str, data: bytes) -> Iterator[Span]:
    """Those of the text; `data` is the same in ASCII, character for character."""
    if data.count(b":") >= 2:
        for match in _COLONS.finditer(data):
            yield from _with_colons(text, *match.span())
    if data.count(b".") >= 3:
        for match in _DOTTED.finditer(data):
            if _is_ipv4(text, *match.span()):
                yield *match.span(), "[ip]"
    if data.count(b"-") >= 5 or data.count(b".") >= 2:
        for match in _PAIRS.finditer(data):
            if match.end() - match.start() in (14, 17) and _stands_alone(text, *match.span()):
                written = text[match.start() : match.end()]
                if _MAC.fullmatch(written) and re.search("[A-Fa-f]", written):
                    yield *match.span(), "[mac]"


def _with_colons(text: str, start: int, end: int) -> Iterator[Span]:
    """An address in a run of hex digits and colons; a label before it ("IPv6:") and a colon behind it are none of it."""
    if start and (text[start - 1].isalpha() or text[start - 1] == "_"):
        start = text.index(":", start) + 1
    if len(tail := text[start:end].rpartition(":")[2]) > 4 and "." not in tail:
        end -= len(tail)  # a number of another kind, which may go: what is left must be told the same then
    if end - start > _LONGEST + 2 or (end < len(text) and (text[end].isalnum() and text[end].isascii())):
        return
    written = text[start:end].rstrip(".")
    if written.endswith(":") and not written.endswith("::"):
        written = written[:-1]
    if written.count(":") < 2:
        return
    if _MAC.fullmatch(written):
        yield start, start + len(written), "[mac]"
    elif _is_ipv6(written):
        yield start, start + len(written), "[ip]"


def _is_ipv6(written: str) -> bool:
    """12:30:45 is a time, ::1 nobody's address and a1b::c2d a path in a program."""
    if max(map(len, written.split(":"))) < 3 or not re.search(r"\d", written):
        return False
    try:
        address = ipaddress.IPv6Address(written)
    except ValueError:
        return False
    return (
        written.count(":") >= 5
        or address.ipv4_mapped is not None
        or written[:2].lower() in ("20", "24", "26", "28", "2a", "2c", "fe", "fd", "fc")
    )


def _is_ipv4(text: str, start: int, end: int) -> bool:
    """Four numbers up to 255; no version, mask or address of nobody."""
    written = text[start:end]
    octets = written.split(".")
    if len(octets) != 4 or len(written) > 15 or max(map(int, octets)) > 255 or not _stands_alone(text, start, end):
        return False
    if octets[0] in ("0", "255", "127") or written == "192.0.2.1":
        return False
    before = text[max(0, start - 24) : start]
    if not before.rstrip(" .:")[-1:].isalpha():
        return True
    return not _VERSION.search(before) and not (int(octets[0]) < _LOW and _PROGRAM.search(before) and octets[0] != "10")


def _stands_alone(text: str, start: int, end: int) -> bool:
    return not (start and _touches(text[start - 1])) and not (
        end < len(text) and _touches(text[end]) and text[end] != "."
    )


def _touches(character: str) -> bool:
    return character in "_." or (character.isascii() and character.isalnum())
