"""Bank accounts and payment cards, by their checksums."""

from __future__ import annotations

import re
from functools import lru_cache

from stdnum import iban, luhn, numdb

IBAN = r"[A-Za-z]{2}[0-9]{2}(?:[ \-]{0,2}[A-Za-z0-9]){11,30}"
"""May run on into the words behind it: its country says how many characters count."""

_ISSUER = re.compile(
    r"4\d{15}(?:\d{3})?|(?:5[1-5]|2[2-7])\d{14}|3[47]\d{13}|3(?:0[0-5]|[689]\d)\d{11}|(?:6011|64[4-9]\d|65\d\d|35\d\d)\d{12}|62\d{14,17}"
)
_CARD_BEFORE = re.compile(
    r"(?:card|karte|kreditkarte|tarjeta|carte|carta|cartão|kaart|karta|karty|kort|карта|карты|卡号|カード)"
    r"(?:[ :.#=\-]|number|no|nr|nummer|numero|número|is|ist|es|est){0,5}\Z",
    re.I,
)
_GROUPS = re.compile(
    r"\d{14,19}|\d{4}(?:[ .\-]{1,3}\d{4}){3}(?:[ .\-]{1,3}\d{3})?|\d{4}[ .\-]{1,3}\d{6}[ .\-]{1,3}\d{4,5}"
)


def iban_length(written: str) -> int:
    """How many characters at the beginning are an account number; 0 where none is."""
    places = [place for place, character in enumerate(written) if character not in " -"]
    size = _iban_size(written[:2].upper())
    if not size or len(places) < size:
        return 0
    end = places[size - 1] + 1
    after = written[end : end + 1]
    if after == "_" or (after.isascii() and after.isalnum()):
        return 0
    number = "".join(written[place] for place in places[:size])
    return end if iban.is_valid(number, check_country=False) else 0


def is_card(written: str, digits: str) -> bool:
    """Whether a number in the groups of a card fits an issuer and its check digit."""
    return (
        14 <= len(digits) <= 19
        and _ISSUER.fullmatch(digits) is not None
        and _GROUPS.fullmatch(written) is not None
        and luhn.checksum(digits) == 0
    )


def is_card_behind_its_name(digits: str, left: str) -> bool:
    """Whether what the words before it call a card has its check digit, whoever issued it."""
    return 12 <= len(digits) <= 19 and _CARD_BEFORE.search(left) is not None and bool(luhn.is_valid(digits))


@lru_cache(maxsize=1_024)
def _iban_size(country: str) -> int:
    """Characters of a country's account numbers; 0 where there are none."""
    structure = numdb.get("iban").info(country)[0][1].get("bban", "")
    return 4 + sum(int(part) for part in re.findall(r"(\d+)!", structure)) if structure else 0
