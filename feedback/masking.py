"""Passwords in addresses are shown to nobody: what is printed, logged or answered is masked, wherever it comes from."""

from __future__ import annotations

import re
from typing import Any

MASK = "***"

_URL = re.compile(r"(?<![A-Za-z0-9+.-])([A-Za-z][A-Za-z0-9+.-]{0,30}:/{1,2})([^\s\"<>]+)")
_SECRET = re.compile(
    r"([?&;#][^=&\s]{0,60}(?:pass|pwd|secret|token|key|sig|credential|auth)[^=&\s]{0,60}=)[^&;#\s'\"]+", re.IGNORECASE
)
_BARE = re.compile(r"(?<![^\s:/@,\"'<>])([^\s:/@,\"'<>]{1,200}):([^\s/@\"'<>]{1,200})@(?=[^\s/@:\"'<>]{1,255}:\d)")
_SETTING = re.compile(r"\b((?:password|passwd|pwd)=)[^\s&,;'\"]+", re.IGNORECASE)


def masked(text: str) -> str:
    """The text with the passwords in its addresses, and tokens in their parameters, as `***`.

    >>> masked("postgresql://ann:s3cret@db/trimtab?sslpassword=s3cret can't be reached")
    "postgresql://ann:***@db/trimtab?sslpassword=*** can't be reached"
    >>> masked("'ann:s3cret@broker:9092' is no host; ask ann@example.org, or https://example.org/@ann")
    "'ann:***@broker:9092' is no host; ask ann@example.org, or https://example.org/@ann"
    """
    if ":/" in text:  # paths have one slash of two
        text = _URL.sub(_url, text)
    if "@" in text:
        text = _BARE.sub(rf"\1:{MASK}@", text)
    return _SETTING.sub(rf"\g<1>{MASK}", text) if "=" in text else text


def masked_within(value: Any) -> Any:
    """A document with every text in it masked, names too."""
    match value:
        case str():
            return masked(value)
        case dict():
            return {masked_within(name): masked_within(inner) for name, inner in value.items()}
        case list() | tuple():
            return [masked_within(inner) for inner in value]
    return value


def _url(found: re.Match[str]) -> str:
    scheme, rest = found[1], found[2]
    end = min((at for sign in "/?#" if (at := rest.find(sign)) >= 0), default=len(rest))
    at = rest.rfind("@", 0, end)
    if at < 0 and _is_no_port(rest[:end]):  # a password with such a sign in it: what it is part of is no address
        at = rest.rfind("@")
    if at >= 0:
        user, colon, _ = rest[:at].partition(":")
        web = scheme.lower() in ("http://", "https://")  # there one word alone is a token
        rest = (f"{user}:{MASK}" if colon else MASK if web else user) + rest[at:]
    return scheme + _SECRET.sub(rf"\g<1>{MASK}", rest)


def _is_no_port(authority: str) -> bool:
    _, colon, port = authority.rpartition(":")
    return bool(colon) and not authority.endswith("]") and not port.isdigit()
