"""Which stretches of a text are personal data, and what is written in their place.

A stretch counts when its shape or its checksum makes it unlikely to be an order number, a price, a date or a version;
a bare number of doubtful shape counts only behind a word such as "phone" or "BSN". Every pattern is bounded or
possessive, so that time grows with the length of the text and no faster. Names of people and postal addresses are not
recognised: no rule finds them without a model and many mistakes.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import phonenumbers
from stdnum import iban, luhn, numdb

from feedback.privacy.national_ids import ID_NUMBERS, IdNumber, decimal_digits

# A number starts and ends where no digit, Latin letter or underscore touches it. Only this one character is looked at on
# either side, so that putting a placeholder beside a stretch hardly ever changes what the stretch is taken for.
_START = r"(?<![\dA-Za-z_])"
_END = r"(?![\dA-Za-z_])"
_GAP = r"[ \u00a0\u202f./\-–()]"

LONG_CHARACTERS = 50_000
MARK_US = 8
"""What a character that a rule may begin with costs at worst, in three passes."""

ID = "[id]"
Check = Callable[[re.Match[str]], bool | int]


class Rule(NamedTuple):
    """Group 1 of `pattern` is personal data where `check` says so; `marker` takes its place.

    A check that returns a number means so many characters of the group. No match has fewer than so many `digits`
    in a row, with gaps as in `_MANY_DIGITS`, or is in a text that has none of `words` (folded, see `_folded`).
    """

    marker: str
    pattern: re.Pattern[str]
    check: Check
    digits: int = 0
    words: tuple[str, ...] = ()


def maybe_personal(text: str) -> bool:
    """Whether a text can hold anything that the rules look for; the cheap question that most texts are asked only."""
    return _MAYBE.search(text) is not None


class TooMuchWork(Exception):
    """A text takes longer to redact than whoever asked can wait."""


def work_us(text: str) -> int:
    """Roughly how many microseconds a few passes over a text take at most: by its length, and what a rule may begin with."""
    length = len(text)
    if length > LONG_CHARACTERS:
        return length
    if not maybe_personal(text):
        return 1 + length // 100
    marks = length - len(text.encode().translate(None, _MARKS)) if text.isascii() else len(_MAYBE.findall(text))
    return 10 + length // 4 + MARK_US * marks


def without_personal_data(text: str, region: str | None = None, passes: int | None = None) -> str:
    """The text with a marker in place of each stretch; doing it again changes nothing.

    `region` (ISO 3166, for example "ES") lets national phone numbers of that country count as well. One pass takes time
    in proportion to the length, but there are texts in which each lets the next one find something: raises TooMuchWork
    where `passes` are not enough.
    """
    if not maybe_personal(text):
        return text
    done = 0
    while (shorter := _one_pass(text, region)) != text:  # ends: each change takes away a digit, a colon or an @
        text, done = shorter, done + 1
        if done == passes:
            raise TooMuchWork
    return text


def _one_pass(text: str, region: str | None) -> str:
    if "@" in text or "＠" in text:
        text = _replace(_EMAIL, text)
    if text.count(":") >= 2:
        text = _replace(_IPV6, text)
    if text.count(".") >= 3:
        text = _replace(_IPV4, text)
    digits, first = _digits(text)
    if not digits:
        return text
    most = min(digits, MOST_DIGITS)
    rules = _rules(most, _any_id(most).search(text, max(0, first - ID_LEAD)) is not None, region)
    folded = _folded(text)
    for rule in rules:
        if not rule.words or _says(folded, rule.words):
            shorter = _replace(rule, text)
            if shorter is not text:
                text = shorter
                digits, _ = _digits(text)
                if not digits:
                    break
    return text


def _digits(text: str) -> tuple[int, int]:
    """How many digits the longest stretch has, of those with as many as any number has, and where the first begins."""
    if text.isascii() and len(text) - len(text.encode().translate(None, _ASCII_DIGITS)) < FEWEST_DIGITS:
        return 0, -1  # nearly all texts; told in a fifth of the time
    most, first = 0, -1
    for stretch in _MANY_DIGITS.finditer(text):
        most = max(most, len(decimal_digits(stretch[0])))
        first = stretch.start() if first < 0 else first
    return most, first


def _says(folded: str, words: tuple[str, ...]) -> bool:
    for word in words:  # noqa: SIM110 - half the time of any()
        if word in folded:
            return True
    return False


def _folded(text: str) -> str:
    """In small letters: two texts that differ, for the patterns, in nothing but case are the same."""
    return text.lower() if text.isascii() else text.translate(_LIKE_I).casefold()


def _words(alternatives: str) -> tuple[str, ...]:
    """Of plain words as a pattern's alternatives, those that tell whether any of them is in a text."""
    words = [word.casefold() for word in alternatives.split("|")]
    return tuple(word for word in words if not any(other != word and other in word for other in words))


_LIKE_I = str.maketrans("İı", "ii")


def _replace(rule: Rule, text: str) -> str:
    pieces, done, position = [], 0, 0
    while match := rule.pattern.search(text, position):
        if verdict := rule.check(match):
            start, end = match.span(1)
            end = end if verdict is True else start + verdict
            pieces += [text[done:start], rule.marker]
            done = position = end
        else:
            position = match.start() + 1  # a stretch that is none may hide one that starts inside it
    return text if not pieces else "".join(pieces) + text[done:]


def _always(match: re.Match[str]) -> bool:
    return True


# --- e-mail: CJK letters do not belong to an address, so that one is found in the middle of a Chinese sentence

_LETTERS = r"0-9A-Za-z\u00c0-\u052f"
_LOCAL = rf"{_LETTERS}.!#$%&'*+/=?^_`{{|}}~\-"
_EMAIL = Rule(
    "[email]",
    re.compile(
        rf"(?<![{_LOCAL}])([{_LOCAL}]++[@＠](?:[{_LETTERS}](?:[{_LETTERS}\-]{{0,61}}[{_LETTERS}])?\.){{1,8}}[A-Za-z\u00c0-\u052f]{{2,24}})"
    ),
    _always,
)


# --- IP addresses

_VERSION_BEFORE = re.compile(
    r"(?:v|ver|vers|version|versión|firmware|release|build|update|版本|固件)[.:： ]{0,3}$", re.I
)


def _is_ipv6(match: re.Match[str]) -> bool:
    address = match[1]
    if len(address) > 45 or max(map(len, address.split(":"))) < 3:  # 12:30:45 is a time, ::1 nobody's address
        return False
    try:
        ipaddress.IPv6Address(address)
    except ValueError:
        return False
    return any(character.isdecimal() for character in address)


def _is_ipv4(match: re.Match[str]) -> bool:
    """Four numbers up to 255, and not what stands behind the word "version"."""
    octets = match[1].split(".")
    if len(octets) != 4 or any(len(octet) > 3 or int(octet) > 255 for octet in octets):
        return False
    return _VERSION_BEFORE.search(match.string, max(0, match.start() - 14), match.start()) is None


_IPV6 = Rule(
    "[ip]",
    # the first alternative is for a label that touches the address ("IPv6:2001:db8::1"); one colon may end a clause
    re.compile(
        rf"(?:(?<=[A-Za-z]:)|(?<=[A-Za-z]\d:)|(?<![0-9A-Za-z_:]))((?:[0-9A-Fa-f]{{0,4}}:){{2,8}}(?:[0-9A-Fa-f]{{1,4}}|(?<=::))(?:(?:\.\d{{1,3}}){{3}})?){_END}"
    ),
    _is_ipv6,
)
_IPV4 = Rule("[ip]", re.compile(rf"(?<![\dA-Za-z_.])(\d{{1,3}}(?:\.\d++){{3,}}+){_END}"), _is_ipv4)


# --- bank accounts and payment cards


def _iban_length(match: re.Match[str]) -> int:
    """Length of the account number in the match: its country says how many characters count, more may follow."""
    text = match[1]
    places = [place for place, character in enumerate(text) if character not in _IBAN_GAP]
    size = _iban_size(text[:2].upper())
    if not size or len(places) < size:
        return 0
    end = places[size - 1] + 1
    if text[end : end + 1] not in ("", *_IBAN_GAP):
        return 0
    number = "".join(text[place] for place in places[:size])
    return end if iban.is_valid(number, check_country=False) else 0


@lru_cache(maxsize=1_024)
def _iban_size(country: str) -> int:
    """Characters of a country's account numbers; 0 where there are none."""
    structure = numdb.get("iban").info(country)[0][1].get("bban", "")
    return 4 + sum(int(part) for part in re.findall(r"(\d+)!", structure)) if structure else 0


_CARD_ISSUER = re.compile(
    r"4\d{15}(?:\d{3})?|(?:5[1-5]|2[2-7])\d{14}|3[47]\d{13}|3(?:0[0-5]|[689]\d)\d{11}|(?:6011|64[4-9]\d|65\d\d|35\d\d)\d{12}|62\d{14,17}"
)


def _is_card(match: re.Match[str]) -> bool:
    number = decimal_digits(match[1])
    return _CARD_ISSUER.fullmatch(number) is not None and luhn.checksum(number) == 0


_IBAN_GAP = (" ", "-", "\u00a0")
_IBAN = Rule(
    "[iban]",
    re.compile(
        rf"{_START}([A-Z]{{2}}\d\d(?:[A-Z0-9]{{11,30}}|(?:[ \-\u00a0][A-Z0-9]{{4}}){{2,7}}(?:[ \-\u00a0][A-Z0-9]{{1,3}})?)){_END}",
        re.I | re.A,
    ),
    _iban_length,
    digits=6,
)
_CARD = Rule(
    "[card]",
    re.compile(
        rf"{_START}(\d{{14,19}}|\d{{4}}([ \-\u00a0])\d{{4}}\2\d{{4}}\2\d{{4}}(?:\2\d{{3}})?|\d{{4}}([ \-\u00a0])\d{{6}}\3\d{{4,5}}){_END}"
    ),
    _is_card,
    digits=14,
)


# --- national id numbers


def _id_rule(kind: IdNumber) -> Rule:
    before = rf"(?<![A-Za-z])(?:{kind.cue})(?:[ :.#=\-]|is|nr|no|number|nummer|ist){{0,6}}" if kind.cue else ""
    pattern = re.compile(f"{before}{_START}({kind.shape}){_END}", re.I)

    def check(match: re.Match[str]) -> bool:
        try:
            return kind.is_valid(match[1].upper())
        except (ArithmeticError, LookupError, ValueError):  # stdnum raises KeyError on a few made-up numbers
            return False

    return Rule(ID, pattern, check, kind.digits, _words(kind.cue) if kind.cue else ())


# --- phone numbers

_DATE = re.compile(r"\d{1,2}[./\- ]{1,3}\d{1,2}[./\- ]{1,3}\d{4}(?!\d)|\d{4}[./\-]\d{1,2}[./\-]\d{1,2}(?!\d)")
_CJK = re.compile(r"[\u3400-\u9fff]")
_CUE = (
    r"tel|telephone|phone|mobile|cell|whatsapp|call me|reach me|ring me|text me"
    r"|telefon|telefonnummer|handy|handynummer|rufnummer|mobil|mobilnummer|teléfono|telefono|móvil|movil|celular"
    r"|llámame|llámenme|llamarme|téléphone|portable|telefone|cellulare"
)
_CUE_ZH = "电话|手机|座机|联系方式|电话号码|手机号"
_CONNECTOR = r"(?:[ :.=\-–(（：是为号]|码|is|number|no|nr|nummer|ist|unter|es|el|al|at|on|under){0,6}"


def _has_calling_code(match: re.Match[str]) -> bool:
    digits, codes = decimal_digits(match[1]), phonenumbers.COUNTRY_CODE_TO_REGION_CODE
    return int(digits[:1]) in codes or int(digits[:2]) in codes or int(digits[:3]) in codes


def _is_abroad(match: re.Match[str]) -> bool:
    return _valid_phone("+" + decimal_digits(match[1])[2:], None)


def _is_no_date(match: re.Match[str]) -> bool:
    return _DATE.match(match[1]) is None


def _is_national(match: re.Match[str]) -> bool:
    return 9 <= len(decimal_digits(match[1])) <= 12 and _is_no_date(match)


def _is_chinese_mobile(match: re.Match[str]) -> bool:
    """Eleven digits in a row need a Chinese character near them; 138-0013-8000 speaks for itself."""
    start, end = match.span(1)
    return end - start > 11 or _CJK.search(match.string, max(0, start - 20), end + 20) is not None


@lru_cache(maxsize=4_096)
def _valid_phone(number: str, region: str | None) -> bool:
    try:
        return phonenumbers.is_valid_number(phonenumbers.parse(number, region))
    except phonenumbers.NumberParseException:
        return False


_NOT_AN_ORDER = r"(?<!#)(?<![A-Za-z][\-_])"  # "#555-123-4567" and "RET-555-123-4567" are no phones
_PHONES = (
    Rule("[phone]", re.compile(rf"([+＋][1-9](?:{_GAP}{{0,3}}\d){{6,14}}){_END}"), _has_calling_code, 7, ("+", "＋")),
    Rule("[phone]", re.compile(rf"{_START}(00[1-9](?:{_GAP}{{0,3}}\d){{7,13}}){_END}"), _is_abroad, 10),
    Rule(
        "[phone]",
        re.compile(
            rf"{_NOT_AN_ORDER}((?:\(\d{{3}}\) ?|{_START}(?:1[ .\-])?[2-9]\d\d[ .\-])\d{{3}}[ .\-]\d{{4}}){_END}"
        ),
        _always,
        10,
    ),
    Rule(
        "[phone]",
        re.compile(rf"{_NOT_AN_ORDER}{_START}(0[1-9]\d{{0,3}}(?: ?[/\-–] ?| )?\d(?:[ \u00a0\-]?\d){{4,9}}){_END}"),
        _is_national,
        7,
    ),
    Rule("[phone]", re.compile(rf"{_START}(0[1-9](?:\.\d\d){{4}}){_END}"), _always, 10),
    Rule("[phone]", re.compile(rf"(\(0[1-9]\d{{0,3}}\)(?:[ /\-–]{{0,3}}\d){{5,9}}){_END}"), _always, 7),
    Rule(
        "[phone]",
        re.compile(rf"{_START}(1[3-9]\d{{9}}|1[3-9]\d[ \-]\d{{4}}[ \-]\d{{4}}){_END}"),
        _is_chinese_mobile,
        11,
    ),
    Rule(
        "[phone]",
        re.compile(
            rf"(?:(?<![A-Za-z])(?:{_CUE})|(?:{_CUE_ZH})){_CONNECTOR}{_START}(\d(?:{_GAP}{{0,2}}\d){{6,14}}){_END}", re.I
        ),
        _is_no_date,
        7,
        _words(f"{_CUE}|{_CUE_ZH}"),
    ),
)


@lru_cache(maxsize=256)
def _national_phone(region: str) -> Rule:
    """Grouped numbers that are valid in `region` and, where the country writes a leading 0, have one."""
    needs_zero = phonenumbers.ndd_prefix_for_region(region, True) == "0"

    def check(match: re.Match[str]) -> bool:
        number = decimal_digits(match[1])
        if needs_zero and not number.startswith("0"):
            return False
        return _is_no_date(match) and _valid_phone(number, region)

    return Rule("[phone]", re.compile(rf"{_START}(\d{{2,4}}(?:[ .\-]\d{{2,4}}){{2,4}}){_END}"), check, 6)


ID_LEAD = 6
"""No id that counts without a word before it has more characters before its digits."""
_MAYBE = re.compile(r"[\d@＠:]")
_ASCII_DIGITS = b"0123456789"
_MARKS = _ASCII_DIGITS + b"@:"
FEWEST_DIGITS, MOST_GAP = 6, 4  # of any number of _NUMBERS
_MANY_DIGITS = re.compile(rf"\d(?:\D{{0,{MOST_GAP}}}\d){{{FEWEST_DIGITS - 1},}}")
_NUMBERS = (_IBAN, _CARD, *map(_id_rule, ID_NUMBERS), *_PHONES)
MOST_DIGITS = max(rule.digits for rule in _NUMBERS)


@lru_cache(maxsize=MOST_DIGITS)
def _any_id(digits: int) -> re.Pattern[str]:
    """Finds whatever has the shape of an id of at most so many digits that counts without a word before it."""
    shapes = [kind.shape for kind in ID_NUMBERS if not kind.cue and kind.digits <= digits]
    return re.compile(f"{_START}(?:{'|'.join(shapes)}){_END}", re.I)


@lru_cache(maxsize=1_024)
def _rules(digits: int, ids: bool, region: str | None) -> tuple[Rule, ...]:
    """Those that can match in a text whose longest stretch has so many digits; `ids`: whether `_any_id` found something."""
    rules = (*_NUMBERS, _national_phone(region)) if region is not None else _NUMBERS
    return tuple(rule for rule in rules if rule.digits <= digits and (ids or rule.words or rule.marker != ID))
