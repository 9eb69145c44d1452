"""National id numbers: shapes that fewer than one number in a hundred of the same look fits by chance.

Where a checksum alone is weaker than that (nine digits modulo eleven, say), the number counts only behind its own name.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from stdnum.be import nn as be_nn
from stdnum.br import cpf as br_cpf
from stdnum.ca import sin as ca_sin
from stdnum.ch import ssn as ch_ahv
from stdnum.cn import ric as cn_ric
from stdnum.de import idnr as de_idnr
from stdnum.es import dni as es_dni
from stdnum.es import nie as es_nie
from stdnum.fr import nir as fr_nir
from stdnum.in_ import aadhaar as in_aadhaar
from stdnum.it import codicefiscale as it_cf
from stdnum.kr import rrn as kr_rrn
from stdnum.mx import curp as mx_curp
from stdnum.nl import bsn as nl_bsn
from stdnum.pl import pesel as pl_pesel
from stdnum.se import personnummer as se_pnr
from stdnum.us import ssn as us_ssn


class IdNumber(NamedTuple):
    """One way to write one country's number: a regular expression, a check, how many digits it has at least, and the
    words that must precede it, if any."""

    shape: str
    is_valid: Callable[[str], bool]
    digits: int
    cue: str = ""


def decimal_digits(number: str) -> str:
    """Its digits as 0-9, whatever script they are written in."""
    if number.isascii():  # by far most: a fifth of the time
        return "".join(filter(str.isdecimal, number))
    return "".join(str(int(character)) for character in number if character.isdecimal())


def _on_digits(is_valid: Callable[[str], bool]) -> Callable[[str], bool]:
    return lambda number: is_valid(decimal_digits(number))


def _pesel_of_our_times(number: str) -> bool:
    return number[2] in "0123" and pl_pesel.is_valid(number)  # the month tells the century: born 1900 to 2099


def _resident_id(number: str) -> bool:
    """Checksum and date of birth; not the place, whose list goes out of date."""
    return cn_ric.calc_check_digit(number) == number[-1] and bool(cn_ric.get_birth_date(number))


def _personnummer(number: str) -> bool:
    return len(number) == 13 and se_pnr.is_valid(number)


ID_NUMBERS = (
    IdNumber(r"\d{3}-\d\d-\d{4}|\d{3} \d\d \d{4}", _on_digits(us_ssn.is_valid), 9),
    IdNumber(
        r"[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z] ?\d\d ?\d\d ?\d\d ?[A-D]",
        lambda number: number[:2] not in ("GB", "NK", "TN", "ZZ"),
        6,
    ),
    IdNumber(r"\d{11}|\d\d \d{3} \d{3} \d{3}", _on_digits(de_idnr.is_valid), 11),
    IdNumber(r"\d{8}[ \-]?[A-Z]", es_dni.is_valid, 8),
    IdNumber(r"[XYZ][ \-]?\d{7}[ \-]?[A-Z]", es_nie.is_valid, 7),
    IdNumber(r"[12] ?\d\d ?\d\d ?\d[\dAB] ?\d{3} ?\d{3} ?\d\d", fr_nir.is_valid, 14),
    IdNumber(r"[A-Z]{6}\d\d[A-Z]\d\d[A-Z]\d{3}[A-Z]", it_cf.is_valid, 7),
    IdNumber(r"\d{11}", _on_digits(_pesel_of_our_times), 11),
    IdNumber(r"\d{3}\.\d{3}\.\d{3}-\d\d", br_cpf.is_valid, 11),
    IdNumber(r"\d{17}[\dX]", _resident_id, 17),
    IdNumber(r"[2-9]\d{3} \d{4} \d{4}", _on_digits(in_aadhaar.is_valid), 12),
    IdNumber(r"756\.\d{4}\.\d{4}\.\d\d|756\d{10}", ch_ahv.is_valid, 13),
    IdNumber(r"\d\d\.\d\d\.\d\d-\d{3}\.\d\d", be_nn.is_valid, 11),
    IdNumber(r"[A-Z]{4}\d{6}[HM][A-Z]{5}[A-Z\d]\d", mx_curp.is_valid, 6),
    IdNumber(r"(?:19|20)\d{6}[\-+]\d{4}", _personnummer, 12),
    IdNumber(r"\d{6}-[1-8]\d{6}", kr_rrn.is_valid, 13),
    IdNumber(r"\d{9}|\d{4}\.\d\d\.\d{3}", _on_digits(nl_bsn.is_valid), 9, cue="bsn|burgerservicenummer|sofinummer"),
    IdNumber(r"\d{3}[ \-]?\d{3}[ \-]?\d{3}", _on_digits(ca_sin.is_valid), 9, cue="sin|nas|social insurance"),
    IdNumber(r"\d{11}", _on_digits(br_cpf.is_valid), 11, cue="cpf"),
    IdNumber(r"\d{9}", _on_digits(us_ssn.is_valid), 9, cue="ssn|social security"),
    IdNumber(r"\d{12}", _on_digits(in_aadhaar.is_valid), 12, cue="aadhaar|aadhar|uidai"),
)
