"""Which stretches of a text are personal data, and what is written in their place, in one pass over the text in normal form.

A stretch counts when its shape or its checksum makes it unlikely to be an order number, a price, a date or a version; a
number of doubtful shape counts only behind a word such as "phone" or "BSN". Candidates are found by RE2, whose time grows
with the length of the text and no faster; each is then asked about once, with what stands to its left as it was already
redacted, so that doing it again changes nothing. Names of people and postal addresses are not recognised: no rule finds
them without a model and many mistakes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

import re2

from feedback.privacy.accounts import iban_length, is_card, is_card_behind_its_name
from feedback.privacy.credentials import CUES, KEYS, keys, passwords
from feedback.privacy.emails import emails
from feedback.privacy.national_ids import ID_NUMBERS, IdNumber
from feedback.privacy.network import Span, addresses
from feedback.privacy.normal import Normal, normalised
from feedback.privacy.phones import EXTENSION, is_phone
from feedback.privacy.words import left_of, says_phone, says_thing

LONG_CHARACTERS = 50_000
MARK_US = 8
"""What a character that a rule may begin with costs at worst."""
MOST_WORK = 60_000
"""For the numbers of one text, in steps; what comes after so many counts by its shape alone, so that a text takes
no longer for being made of what is hard to tell."""
_LOOK_WORK, _CHECK_WORK = 2, 15
"""Of looking at a place where a number may begin, and of asking what it is."""
_FEWEST_IN_ID = 4
FEWEST_DIGITS = 6
_MOST_WORDS = 8
"""Of groups with blanks between them that one number has at most."""

_SIX_DIGITS = r"(?s)\pN.*\pN.*\pN.*\pN.*\pN.*\pN"
_SIGNS = (
    r"[@＠﹫]|[:：﹕].*[:：﹕]|\pN[.．]\pN{1,3}[.．]\pN{1,3}[.．]\pN|(?i)[0-9a-f]{2}(?:-[0-9a-f]{2}){5}|[0-9a-f]{4}\.[0-9a-f]{4}\."
    r"|[\x{ad}\x{200b}-\x{200f}\x{2060}\x{feff}]"
)
_SPOKEN = (
    "zero|oh|one|two|three|four|five|six|seven|eight|nine|double|triple|null|eins|zwei|zwo|drei|vier|fünf|sechs|sieben"
    "|acht|neun|cero|uno|dos|tres|cuatro|cinco|seis|siete|ocho|nueve|un|deux|trois|quatre|cinq|sept|huit|neuf|meia|dois"
    "|quatro|sete|oito|nove|due|tre|quattro|cinque|sei|sette|otto|nul|een|twee|drie|zes|zeven|negen"
)
_SPELT_NUMBER = rf"(?i)\b(?:{_SPOKEN})(?:[ ,.\-]+(?:{_SPOKEN})){{6,}}\b"
_AT_WORD = r"(?i)[(\[{<] ?(?:at|ät|arroba|chez|a|собака) ?[)\]}>]| (?:at|arroba) [\w\-]+ (?:dot|punto) "
_MOST_MEMORY = 64 << 20


def _options() -> re2.Options:
    options = re2.Options()
    options.max_mem = _MOST_MEMORY
    return options


_SPELT = re2.compile(_SPELT_NUMBER, _options())
_, _MAYBE_KEY, _MAYBE_PASSWORD, _MAYBE_AT, _MAYBE_SPOKEN = range(5)


def _maybe() -> re2.Set:
    found = re2.Set.SearchSet(_options())
    for pattern in (
        f"{_SIX_DIGITS}|{_SIGNS}",
        f"(?:{KEYS.split('|-----')[0]})|-----BEGIN ",
        f"(?i)(?:{CUES})",
        _AT_WORD,
        _SPELT_NUMBER,
    ):
        found.Add(pattern)
    found.Compile()
    return found


class TooMuchWork(Exception):
    """A text takes longer to redact than whoever asked can wait."""


def maybe_personal(text: str) -> bool:
    """Whether a text can hold anything that is looked for; the cheap question that most texts are asked only."""
    return bool(_MAYBE.Match(_bytes(text)))


def work_us(text: str) -> int:
    """Roughly how many microseconds a text takes at most: by its length, and what a candidate may begin with."""
    length = len(text)
    if length > LONG_CHARACTERS:
        return length
    if not maybe_personal(text):
        return 1 + length // 100
    marks = length - len(text.encode().translate(None, _MARKS)) if text.isascii() else len(_MARK.findall(text))
    return 10 + length // 4 + MARK_US * marks


def without_personal_data(text: str, region: str | None = None) -> str:
    """The text with a marker in place of each stretch; doing it again changes nothing.

    `region` (ISO 3166, for example "ES") lets national numbers of that country count as well. Takes time in proportion
    to the length.
    """
    maybe = _MAYBE.Match(_bytes(text))
    if not maybe:
        return text
    normal = normalised(text)
    data = normal.text.encode("ascii", "replace")
    certain = _certain(normal.text, data, maybe)
    digits = len(data) - len(data.translate(None, _DIGITS))
    if digits < FEWEST_DIGITS and not certain:
        return text
    spans = _Numbers(normal.text, data, region).spans(certain) if digits >= FEWEST_DIGITS else certain
    return _replaced(text, normal, spans) if spans else text


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _certain(text: str, data: bytes, maybe: list[int]) -> list[Span]:
    """What shows by itself what it is, in order and apart."""
    found: list[Span] = []
    if _MAYBE_KEY in maybe:
        found += keys(data, text)
    if _MAYBE_PASSWORD in maybe:
        found += passwords(data, text)
    if "@" in text or _MAYBE_AT in maybe:
        found += emails(text, _MAYBE_AT in maybe)
    found += addresses(text, data)
    if _MAYBE_SPOKEN in maybe:
        found += [(*match.span(), "[phone]") for match in _SPELT.finditer(text)]
    found.sort(key=lambda span: (span[0], -span[1]))
    apart, end = list[Span](), 0
    for span in found:
        if span[0] >= end:
            apart.append(span)
            end = span[1]
    return apart


_CONNECTOR = r"(?:[^\d\n;!?\[\]]{0,3}(?:is|nr|no|number|nummer|numero|número|numéro|nº|n°|ist|es|est|è|é|är|er|of|of the|jest|code|card|id|#|是|号|號|番号|는|は)?){0,3}"


@lru_cache(maxsize=256)
def _cue(words: str) -> re.Pattern[str]:
    """What stands right before a number that is said to be of this kind. Made when it is asked for: most never are."""
    return re.compile(rf"(?:(?<![^\W_])|(?<=(?-i:[\u0e00-\u9fff])))(?:{words}){_CONNECTOR}[ :.#=\-(]*\Z", re.I)


class _Kind(NamedTuple):
    id: IdNumber
    regions: frozenset[str]
    shape: re.Pattern[str]

    def stands_alone(self, region: str | None) -> bool:
        """Whether it is one without a word that says so."""
        return region in self.regions or not (self.id.cue or self.regions)

    def is_said(self, left: str) -> bool:
        """Whether the words before a number say that it is of this kind."""
        return bool(self.id.cue) and _cue(self.id.cue).search(left) is not None


@lru_cache(maxsize=1)
def _kinds() -> tuple[_Kind, ...]:
    return tuple(_Kind(kind, frozenset(kind.regions.split()), re.compile(kind.shape)) for kind in ID_NUMBERS)


class _Said(NamedTuple):
    phone: bool
    thing: bool
    id: bool
    """Some kind of id, it may be: which one is another question."""
    left: str


class _Numbers:
    """Goes through the numbers of one text, from left to right."""

    def __init__(self, text: str, data: bytes, region: str | None) -> None:
        self._text, self._data, self._region = text, data, region
        self._done, self.work, self._worded = 0, 0, False

    def spans(self, certain: list[Span]) -> list[Span]:
        """Those of numbers, between those that are certain, in order."""
        spans, begin = list[Span](), 0
        for span in (*certain, (len(self._text), len(self._text), "")):
            self._done = begin
            spans += self._between(begin, span[0])
            if span[2]:
                spans.append(span)
            begin = span[1]
        return spans

    def _between(self, begin: int, end: int) -> Iterator[Span]:
        if end - begin < FEWEST_DIGITS:
            return
        position = begin
        for match in _CANDIDATE.finditer(self._data, begin, end):
            start, stop = match.span()
            if start < position:
                start = self._word_after(position, stop)
            while start < stop:
                found = self._at(start, stop, end) if self.work < MOST_WORK else self._by_shape(start, stop)
                if found is None:
                    start = self._word_after(start + 1, stop)
                else:
                    yield found
                    self._done = position = found[1]
                    start = self._after(position, stop)
                if self.work >= MOST_WORK and found is None:
                    break

    def _word_after(self, place: int, stop: int) -> int:
        """Where the next group begins that is not joined to the one before it."""
        found = _NEXT.search(self._text, place, stop) if place < stop else None
        return stop if found is None else found.start()

    def _after(self, place: int, stop: int) -> int:
        found = _ANY.search(self._text, place, stop)
        return stop if found is None else found.start()

    def _by_shape(self, start: int, stop: int) -> Span | None:
        digits = len(self._data[start:stop]) - len(self._data[start:stop].translate(None, _DIGITS))
        return (start, stop, "[id]") if digits >= _FEWEST_IN_ID else None

    def _at(self, start: int, stop: int, end: int) -> Span | None:
        text = self._text
        self.work += _LOOK_WORK
        before = text[start - 1] if start > self._done else " "
        if (before.isascii() and (before.isalnum() or before == "_")) or before.isdecimal():
            return None
        if text[start : start + 4].upper() == "IBAN":
            start += 4
        window = text[start : min(stop, start + _LONGEST)]
        ends = [match.end() for match in _WORD_ENDS.finditer(window)][:_MOST_WORDS]
        ends = [size for size in ends if start + size == end or not _joined(text, start + size, end)]
        digits = "".join(filter(str.isdigit, window[: ends[-1]])) if ends else ""
        if not ends or len(digits) < (FEWEST_DIGITS if window[: ends[-1]].isdigit() else _FEWEST_IN_ID):
            return None
        left = left_of(text, self._done, start)
        said = self._said(left)
        if window[:2].isalpha() and window[:2].isascii() and (size := iban_length(text[start : min(end, start + 80)])):
            return start, start + size, "[iban]"
        for size in reversed(ends):
            written = window[:size]
            digits = "".join(filter(str.isdigit, written))
            if len(digits) < _FEWEST_IN_ID:
                break
            if len(digits) > _MOST_DIGITS or written.count("(") > written.count(")"):
                continue
            if marker := self._kind(written, digits, said):
                return start, start + size, marker
        return None

    def _said(self, left: str) -> _Said:
        self._worded = _LETTER.search(left) is not None
        if not self._worded:
            return _Said(False, left.endswith("#"), False, left)
        self.work += _CHECK_WORK
        return _Said(says_phone(left), says_thing(left), _ID_WORD.search(left) is not None, left)

    def _kind(self, written: str, digits: str, words: _Said) -> str:
        self.work += _CHECK_WORK
        phone, thing, _, left = words
        if is_card(written, digits) or (self._worded and is_card_behind_its_name(digits, left)):
            return "[card]"
        upper = written.upper()
        for kind, alone in _kinds_of(len(digits), None if thing else self._region or "", words.id):
            if kind.shape.fullmatch(upper) is None or not (alone or kind.is_said(left)):
                continue
            if _valid(kind.id, upper):
                return "[id]"
        if (core := EXTENSION.sub("", written)) != written and core:
            written, digits = core, "".join(filter(str.isdigit, core))
        if any(map(str.isalpha, written)) or ((thing or _labelled(left)) and not phone and written[0] != "+"):
            return ""
        return "[phone]" if is_phone(written, digits, left, phone, self._region) else ""


@lru_cache(maxsize=1_024)
def _kinds_of(digits: int, region: str | None, said: bool) -> tuple[tuple[_Kind, bool], ...]:
    """What a number of so many digits may be, each with whether it needs no word before it; `region` None: all need one."""
    sized = [kind for kind in _kinds() if kind.id.digits <= digits <= kind.id.digits + 8]
    kinds = [(kind, region is not None and kind.stands_alone(region)) for kind in sized]
    return tuple((kind, alone) for kind, alone in kinds if alone or (said and kind.id.cue))


def _valid(kind: IdNumber, written: str) -> bool:
    try:
        return kind.is_valid(written)
    except (ArithmeticError, LookupError, ValueError):  # stdnum raises KeyError on a few made-up numbers
        return False


def _labelled(left: str) -> bool:
    """ "RET-" before a number: it is that of a return."""
    return left[-1:] in ("-", "_", "#") and (left[-1:] == "#" or left[-2:-1].isalpha())


def _joined(text: str, place: int, end: int) -> bool:
    """Whether what stands at `place` goes on with the number before it."""
    character = text[place : place + 1]
    if character in ("-", ".", "/") and place + 1 < end:
        return text[place + 1].isdigit() and text[place + 1].isascii()
    return character != "" and character.isascii() and (character.isalnum() or character == "_")


def _replaced(text: str, normal: Normal, spans: list[Span]) -> str:
    pieces, done = list[str](), 0
    for start, end, marker in spans:
        first, last = normal.place(start, end)
        pieces += [text[done:first], marker]
        done = last
    pieces.append(text[done:])
    return "".join(pieces)


_LONGEST = 40
_MOST_DIGITS = 19
_LETTER = re.compile(r"[^\W\d_]")
_ANY = re.compile(r"[+(]*[A-Za-z0-9]")
_DIGITS = b"0123456789"
_MARKS = _DIGITS + b"@:"
_MARK = re.compile(r"[\d@＠:]")
_BEGINS = r"[+(]{0,2}[0-9]|[A-Za-z]{1,6}[0-9]|[A-Z]{2} [0-9]{2} ?[0-9]{2} ?[0-9]{2}|[XYZ]-[0-9]"
_GOES_ON = r"[ .\-/()]{1,4}[A-Za-z]{0,3}[0-9][A-Za-z0-9]*|[ \-][A-Za-z]\b"
_CANDIDATE = re2.compile(rf"(?:{_BEGINS})(?:[A-Za-z0-9]{{3,}}(?:{_GOES_ON})*|[A-Za-z0-9]*(?:{_GOES_ON})+)".encode())
_WORD_ENDS = re.compile(r"[A-Za-z0-9]+\)?(?![A-Za-z0-9])")
_NEXT = re.compile(r"(?:(?<=[ ()])|(?<=[^\x00-\x7f]))[+(]*[A-Za-z0-9]")
_ID_WORD = re2.compile(f"(?:^|[^a-z0-9])(?:{'|'.join(kind.cue for kind in ID_NUMBERS if kind.cue)})", _options())
"""In small letters: one of the words that a kind of id is told by, wherever; most numbers have none before them."""
_MAYBE = _maybe()
