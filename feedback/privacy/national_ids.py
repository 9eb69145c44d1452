"""National id numbers: shapes that fewer than one number in a hundred of the same look fits by chance.

Where a checksum alone is weaker than that (nine digits modulo eleven, say), the number counts only behind its own name.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from stdnum.ar import cuit as ar_cuit
from stdnum.at import vnr as at_vnr
from stdnum.au import tfn as au_tfn
from stdnum.be import nn as be_nn
from stdnum.bg import egn as bg_egn
from stdnum.br import cpf as br_cpf
from stdnum.ca import sin as ca_sin
from stdnum.ch import ssn as ch_ahv
from stdnum.cl import rut as cl_rut
from stdnum.cn import ric as cn_ric
from stdnum.cz import rc as cz_rc
from stdnum.de import idnr as de_idnr
from stdnum.ee import ik as ee_ik
from stdnum.es import dni as es_dni
from stdnum.es import nie as es_nie
from stdnum.fi import hetu as fi_hetu
from stdnum.fr import nir as fr_nir
from stdnum.gb import nhs as gb_nhs
from stdnum.gr import amka as gr_amka
from stdnum.hr import oib as hr_oib
from stdnum.ie import pps as ie_pps
from stdnum.il import idnr as il_id
from stdnum.in_ import aadhaar as in_aadhaar
from stdnum.is_ import kennitala as is_kt
from stdnum.it import codicefiscale as it_cf
from stdnum.kr import rrn as kr_rrn
from stdnum.mx import curp as mx_curp
from stdnum.my import nric as my_nric
from stdnum.nl import bsn as nl_bsn
from stdnum.no import fodselsnummer as no_fnr
from stdnum.nz import ird as nz_ird
from stdnum.pl import pesel as pl_pesel
from stdnum.pt import cc as pt_cc
from stdnum.pt import nif as pt_nif
from stdnum.ro import cnp as ro_cnp
from stdnum.ru import inn as ru_inn
from stdnum.se import personnummer as se_pnr
from stdnum.si import emso as si_emso
from stdnum.th import pin as th_pin
from stdnum.tr import tckimlik as tr_id
from stdnum.ua import rntrc as ua_rntrc
from stdnum.us import ssn as us_ssn
from stdnum.za import idnr as za_id


class IdNumber(NamedTuple):
    """One way to write one country's number: a regular expression, a check, how many digits it has at least, and the
    words that must precede it, if any, unless its writer is of one of `regions` (by their codes, with blanks between)."""

    shape: str
    is_valid: Callable[[str], bool]
    digits: int
    cue: str = ""
    regions: str = ""


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


def _always(number: str) -> bool:
    return True


def _without_spaces(is_valid: Callable[[str], bool]) -> Callable[[str], bool]:
    return lambda number: is_valid(number.replace(" ", ""))


def _hetu(number: str) -> bool:
    return fi_hetu.is_valid(number)


def _danish(number: str) -> bool:
    """Ten digits that begin with a day and a month; newer ones have no checksum."""
    digits = decimal_digits(number)
    return 1 <= int(digits[:2]) <= 31 and 1 <= int(digits[2:4]) <= 12


def _cuit(number: str) -> bool:
    return ar_cuit.is_valid(number) or (number[:2] in ("20", "23", "24", "27") and number.count("-") == 2)


def _snils(number: str) -> bool:
    """The last two digits: the others by their place from the right, modulo 101."""
    digits = decimal_digits(number)
    total = sum(int(digit) * weight for digit, weight in zip(digits[:9], range(9, 0, -1), strict=True))
    return total % 101 % 100 == int(digits[9:])


def _taiwanese(number: str) -> bool:
    letter = "ABCDEFGHJKLMNPQRSTUVXYWZIO".index(number[0]) + 10
    total = (
        letter // 10
        + letter % 10 * 9
        + sum(int(d) * w for d, w in zip(number[1:], (8, 7, 6, 5, 4, 3, 2, 1, 1), strict=True))
    )
    return total % 10 == 0


def _nric(number: str) -> bool:
    total = sum(int(d) * w for d, w in zip(number[1:8], (2, 7, 6, 5, 4, 3, 2), strict=True))
    total += {"T": 4, "G": 4, "M": 3}.get(number[0], 0)
    letters = "JZIHGFEDCBA" if number[0] in "ST" else "XWUTRQPNMLK" if number[0] in "FG" else "KLJNPQRTUWX"
    return letters[total % 11 if number[0] != "M" else 10 - total % 11] == number[8]


def _my_number(number: str) -> bool:
    digits = decimal_digits(number)
    rest = sum(int(d) * w for d, w in zip(digits[:11], (6, 5, 4, 3, 2, 7, 6, 5, 4, 3, 2), strict=True)) % 11
    return int(digits[11]) == (0 if rest <= 1 else 11 - rest)


def _social(number: str) -> bool:
    digits = decimal_digits(number)
    return us_ssn.is_valid(digits) or digits[0] == "9"


def _medicare(number: str) -> bool:
    total = sum(int(d) * w for d, w in zip(number[:8], (1, 3, 7, 9, 1, 3, 7, 9), strict=True))
    return number[0] in "23456" and total % 10 == int(number[8])


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
    IdNumber(r"[A-Z]{6} ?\d\d[A-Z]\d\d ?[A-Z]\d{3}[A-Z]", _without_spaces(it_cf.is_valid), 7),
    IdNumber(r"\d{11}", _on_digits(_pesel_of_our_times), 11),
    IdNumber(r"\d{3}\.\d{3}\.\d{3}-\d\d", br_cpf.is_valid, 11),
    IdNumber(r"\d{17}[\dX]", _resident_id, 17),
    IdNumber(r"[2-9]\d{3}[ \-]\d{4}[ \-]\d{4}", _on_digits(in_aadhaar.is_valid), 12),
    IdNumber(r"756\.\d{4}\.\d{4}\.\d\d|756 \d{4} \d{4} \d\d|756\d{10}", _on_digits(ch_ahv.is_valid), 13),
    IdNumber(r"\d\d\.\d\d\.\d\d-\d{3}\.\d\d", be_nn.is_valid, 11),
    IdNumber(r"[A-Z]{4}\d{6}[HM][A-Z]{5}[A-Z\d]\d", mx_curp.is_valid, 6),
    IdNumber(r"(?:19|20)\d{6}[\-+]\d{4}", _personnummer, 12),
    IdNumber(r"\d{6}-[1-8]\d{6}", kr_rrn.is_valid, 13),
    IdNumber(r"\d{6}[\-+A-FU-Y]\d{3}[0-9A-Y]", _hetu, 9),
    IdNumber(r"[12]\d{2}(?:0[1-9]|1[0-2])[0-3]\d{7}", _on_digits(ro_cnp.is_valid), 13),
    IdNumber(r"\d\d?\.\d{3}\.\d{3}-[\dK]", cl_rut.is_valid, 7),
    IdNumber(r"(?:20|23|24|25|26|27)-\d{8}-\d", _cuit, 11),
    IdNumber(r"\d{3}-\d{3}-\d{3} \d\d", _snils, 11),
    IdNumber(r"[A-Z][1289]\d{8}", _taiwanese, 9, regions="TW"),
    IdNumber(r"[STFGM]\d{7}[A-Z]", _nric, 7),
    IdNumber(r"[A-Z]{1,2}\d{6}\([0-9A]\)", _always, 6),
    IdNumber(r"\d{6}-?\d{4}|\d{6} \d{4}", _danish, 10, cue=r"cpr|cpr-?(?:nr|nummer)|personnummer", regions="DK"),
    IdNumber(r"\d{6}[\-+ ]?\d{4}", _on_digits(se_pnr.is_valid), 10, cue="personnummer|personnr|pnr", regions="SE"),
    IdNumber(r"\d{6} ?\d{5}", _on_digits(no_fnr.is_valid), 11, cue="fødselsnummer|fnr|personnummer", regions="NO"),
    IdNumber(r"\d{6}/\d{3,4}", cz_rc.is_valid, 9),
    IdNumber(r"\d{9,10}", cz_rc.is_valid, 9, cue="rodné číslo|rodne cislo|rč|rodného čísla"),
    IdNumber(r"\d{2}-?\d{8}-?\d", _cuit, 11, cue="cuit|cuil", regions="AR"),
    IdNumber(r"\d{1,2}\.\d{3}\.\d{3}|\d{7,8}", _always, 7, cue="dni|documento|cédula|cedula|c\\.c\\.|rut|cc"),
    IdNumber(r"\d{7,8}-?[\dK]", cl_rut.is_valid, 7, cue="rut|run", regions="CL"),
    IdNumber(r"\d{6,11}", _always, 6, cue="cédula|cedula|cédula de ciudadanía"),
    IdNumber(r"\d{3}[ \-]?\d{3}[ \-]?\d{2,3}", _on_digits(au_tfn.is_valid), 8, cue="tfn|tax file(?: number)?"),
    IdNumber(r"\d{4}[ \-]?\d{5}[ \-]?\d", _on_digits(_medicare), 10, cue="medicare"),
    IdNumber(r"\d{3}[ \-]?\d{3}[ \-]?\d{4}", _on_digits(gb_nhs.is_valid), 10, cue="nhs"),
    IdNumber(r"\d{2,3}-?\d{3}-?\d{3}", _on_digits(nz_ird.is_valid), 8, cue="ird"),
    IdNumber(
        r"\d{4} ?\d{6}",
        _on_digits(at_vnr.is_valid),
        10,
        cue="svnr|sv-?nummer|sozialversicherungsnummer|versicherungsnummer",
        regions="AT",
    ),
    IdNumber(
        r"\d{2} ?\d{6} ?[A-Z] ?\d{3}",
        _always,
        11,
        cue="rvnr|sozialversicherungsnummer|rentenversicherungsnummer|sv-?nummer|versicherungsnummer",
    ),
    IdNumber(r"\d{2,3}[/ ]?\d{3}[/ ]?\d{4,5}", _always, 9, cue="steuernummer|st\\.?-?nr|tax number"),
    IdNumber(
        r"\d{2} ?\d{3} ?\d{3} ?\d{3}",
        _on_digits(de_idnr.is_valid),
        11,
        cue="steuer-?id(?:entifikationsnummer)?|idnr|identifikationsnummer",
    ),
    IdNumber(r"\d{3} ?\d{3} ?\d{3}", _on_digits(pt_nif.is_valid), 9, cue="nif|contribuinte"),
    IdNumber(r"\d{8} ?\d ?[A-Z\d]{2}\d", pt_cc.is_valid, 9, cue="cartão de cidadão|cartao de cidadao|cc"),
    IdNumber(r"\d{11}", _on_digits(gr_amka.is_valid), 11, cue="amka|αμκα", regions="GR"),
    IdNumber(r"\d{10}", _on_digits(bg_egn.is_valid), 10, cue="егн|egn", regions="BG"),
    IdNumber(r"\d{11}", _on_digits(tr_id.is_valid), 11, cue="tc|t\\.c\\.|kimlik|tckn", regions="TR"),
    IdNumber(r"\d{13}", _on_digits(za_id.is_valid), 13, cue="id|identity", regions="ZA"),
    IdNumber(r"\d{9}", _on_digits(il_id.is_valid), 9, cue="teudat zehut|ת\\.?ז|תעודת זהות"),
    IdNumber(r"\d{11}", _on_digits(ee_ik.is_valid), 11, cue="isikukood|asmens kodas|ak", regions="EE LT"),
    IdNumber(r"\d{11}", _on_digits(hr_oib.is_valid), 11, cue="oib", regions="HR"),
    IdNumber(r"\d{13}", _on_digits(si_emso.is_valid), 13, cue="emšo|emso|jmbg|јмбг", regions="SI RS BA"),
    IdNumber(r"\d{6}-?\d{4}", _on_digits(is_kt.is_valid), 10, cue="kennitala|kt", regions="IS"),
    IdNumber(r"\d{10}|\d{12}", _on_digits(ru_inn.is_valid), 10, cue="инн|inn"),
    IdNumber(r"\d{3}-?\d{3}-?\d{3}[ \-]?\d\d", _snils, 11, cue="снилс|snils"),
    IdNumber(r"\d{2} ?\d{2} ?\d{6}", _always, 10, cue="паспорт\\w*|серия|passport"),
    IdNumber(r"\d{10}", _on_digits(ua_rntrc.is_valid), 10, cue="рнокпп|іпн|ідентифікаційний код"),
    IdNumber(r"\d{4}[ \-]?\d{4}[ \-]?\d{4}", _my_number, 12, cue="マイナンバー|個人番号|my number"),
    IdNumber(r"\d{13}", _on_digits(th_pin.is_valid), 13, cue="บัตรประชาชน|thai id"),
    IdNumber(r"\d-?\d{4}-\d{5}-\d{2}-\d", _on_digits(th_pin.is_valid), 13),
    IdNumber(r"\d{6}-\d{2}-\d{4}", _on_digits(my_nric.is_valid), 12),
    IdNumber(r"\d{16}", _always, 16, cue="nik|ktp"),
    IdNumber(r"\d{7}[A-W][ABHITW]?", ie_pps.is_valid, 7, cue="ppsn?|pps number"),
    IdNumber(r"[A-Z][1289]\d{8}", _taiwanese, 9, cue="身分證|身份證|身份证|身分證字號|national id"),
    IdNumber(r"[A-Z]{4}\d{6}[A-Z0-9]{3}", _always, 6, cue="rfc"),
    IdNumber(
        r"[A-Z]{3}\d{6}|[A-Z]{2}[A-Z0-9]{7}",
        _always,
        5,
        cue="ausweisnummer|personalausweis|ausweis|dowód|dowodu|carta d'identità|carta identità",
    ),
    IdNumber(
        r"[A-Z]{1,2} ?\d{6,8}[A-Z]?\d?|\d{8,9}|\d{2}[A-Z]{2}\d{5}|[A-Z]\d[A-Z0-9]{6,8}|[A-Z0-9]{2}\d[A-Z0-9]{6}|[A-Z]{3}\d{6}",
        _always,
        4,
        cue="passport|reisepass\\w*|passnummer|pasaporte|passeport|passaporto|passaporte|paspoort\\w*|paszport\\w*|护照|護照|パスポート|여권|passport no|pass-?nr",
    ),
    IdNumber(
        r"[A-Z0-9]{5,16}|[A-Z]\d{3}[ \-]\d{4}[ \-]\d{4}",
        _always,
        4,
        cue="driver'?s licen[cs]e|driving licen[cs]e|führerschein\\w*|licencia de conducir|permis de conduire|patente",
    ),
    IdNumber(
        r"\d{9}|\d{4}\.\d\d\.\d{3}|\d{3} \d{3} \d{3}",
        _on_digits(nl_bsn.is_valid),
        9,
        cue="bsn|burgerservicenummer|sofinummer",
    ),
    IdNumber(r"\d{3}[ \-]?\d{3}[ \-]?\d{3}", _on_digits(ca_sin.is_valid), 9, cue="sin|nas|social insurance"),
    IdNumber(r"\d{11}|\d{9}-\d\d", _on_digits(br_cpf.is_valid), 11, cue="cpf"),
    IdNumber(r"\d{1,2}\.?\d{3}\.?\d{3}-?[\dX]", _always, 8, cue="rg|identidade"),
    IdNumber(r"\d{9}|9\d\d-\d\d-\d{4}", _social, 9, cue="ssn|social security|itin"),
    IdNumber(r"\d{12}", _on_digits(in_aadhaar.is_valid), 12, cue="aadhaar|aadhar|uidai"),
    IdNumber(
        r"\d{11}|\d{2}\.?\d{2}\.?\d{2}[ \-]?\d{3}[ .]?\d{2}",
        _on_digits(be_nn.is_valid),
        11,
        cue="rijksregisternummer|registre national|nationaal nummer|niss|insz",
        regions="BE",
    ),
)
"""In order of their strength: a number is taken for the first that it fits."""
