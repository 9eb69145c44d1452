"""E-mail addresses, also as people write them for no machine to read: ana (at) example (dot) org.

CJK letters do not belong to an address, so that one is found in the middle of a Chinese sentence.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from feedback.privacy.network import Span

_LETTERS = r"0-9A-Za-z\u00c0-\u052f\u0300-\u036f"
_LOCAL = re.compile(rf"[{_LETTERS}.!#$%&'*+/=?^_`{{|}}~\-]+\Z")
_DOMAIN = re.compile(
    rf"(?:[{_LETTERS}](?:[{_LETTERS}\-]{{0,61}}[{_LETTERS}])?\.){{1,8}}[A-Za-z\u00c0-\u052f]{{2,24}}(?![A-Za-z\u00c0-\u052f]*\()"
)
_MOST = 64
_FILE = re.compile(r"\.(?:png|jpe?g|gif|svg|webp|pdf|html?|css|json|txt|exe|dll)\Z", re.I)
"""user@2x.png is no address, and git@github.com a place to clone from."""
_AT = re.compile(r" ?[(\[{<] ?(?:at|ät|arroba|chez|a|аt|собака) ?[)\]}>] ?", re.I)
_DOT = r" ?[(\[{<] ?(?:dot|punkt|punto|point|ponto|точка) ?[)\]}>] ?| (?:dot|punkt|punto|point|ponto) "
_SPELT_DOMAIN = re.compile(rf"[{_LETTERS}\-]{{1,63}}(?:(?:{_DOT}|\.)[{_LETTERS}\-]{{1,63}}){{1,5}}", re.I)
_SPELT = re.compile(
    r"(?<![^\W_])[\w.+\-]{1,64} (?:at|arroba) [\w\-]{1,63} (?:dot|punto) [\w\-]{1,63}(?: dot \w{2,10})?", re.I
)


def emails(text: str, spelt: bool) -> Iterator[Span]:
    """Those of the text, in order; `spelt`: also where at and dot are words."""
    place = text.find("@")
    done = 0
    while place >= 0:
        if (span := _around(text, done, place, place + 1, _DOMAIN)) is not None:
            yield span
            done = span[1]
        place = text.find("@", max(place + 1, done))
    if spelt:
        for match in _AT.finditer(text):
            if (span := _around(text, 0, match.start(), match.end(), _SPELT_DOMAIN)) is not None:
                yield span
        for match in _SPELT.finditer(text):
            yield *match.span(), "[email]"


def _around(text: str, begin: int, at: int, after: int, domain: re.Pattern[str]) -> Span | None:
    end = domain.match(text, after)
    if end is None:
        return None
    local = _LOCAL.search(text[max(begin, at - _MOST) : at])
    if local is None or local[0] == "git" or _FILE.search(end[0]) is not None:
        return None
    return (at - len(local[0]), end.end(), "[email]")
