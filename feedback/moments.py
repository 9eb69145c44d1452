"""A text without its clock: what a system prompt says whenever it is said."""

from __future__ import annotations

import re
from functools import lru_cache

MOMENT = "⌚"
"""Stands for a time or a date."""

_MONTH = (  # as the first letters say, in English, German, French, Spanish, Italian, Portuguese and Dutch
    r"(?:jan|feb|fev|fév|mar|mär|mrt|maa|apr|abr|avr|may|mai|mei|mag|maj|jun|jui|giu|jul|lug|aug|aoû|ago|sep|set|okt|oct|out|ott"
    r"|nov|dec|dez|déc|dic|ene|gen|jän)[^\W\d_]{0,8}\.?"
)
_WEEKDAYS = [
    "monday",
    "tuesday",
    "wednesday",
    "thursday",
    "friday",
    "saturday",
    "sunday",
    "montag",
    "dienstag",
    "mittwoch",
    "donnerstag",
    "freitag",
    "samstag",
    "sonnabend",
    "sonntag",
    "lundi",
    "mardi",
    "mercredi",
    "jeudi",
    "vendredi",
    "samedi",
    "dimanche",
    "lunes",
    "martes",
    "miércoles",
    "jueves",
    "viernes",
    "sábado",
    "domingo",
    "lunedì",
    "martedì",
    "mercoledì",
    "giovedì",
    "venerdì",
    "sabato",
    "domenica",
    "maandag",
    "dinsdag",
    "woensdag",
    "donderdag",
    "vrijdag",
    "zaterdag",
    "zondag",
    "星期",
    "曜日",
    "요일",
]
_ZONE = r"(?:\s?(?:(?:UTC|GMT)?[+-]\d{1,2}(?::?\d{2})?|Z|[A-Z]{3,4})\b)"
_HALF = r"(?:\s?[ap]\.?m\b\.?)"
_NTH = r"\d{1,2}(?:st|nd|rd|th|er|\.|º)?"
_NUMBERED = tuple(
    re.compile(shape, re.IGNORECASE)
    for shape in (  # each begins with a digit, or nearly: that is found fast
        r"(?<!\d)\d{4}-\d{2}-\d{2}(?:[T_ ]\d{2}-\d{2}(?:-\d{2})?)?",  # 2025-11-24, before any T10:15:20Z; and of file names
        r"(?<![\d.])(?:19|20)\d{6}(?:T?\d{4}(?:\d{2})?Z?)?\b",  # 20251124T101520Z
        r"(?<![\d.])(?:\d{4}[/.]\d{1,2}[/.]\d{1,2}|\d{1,2}([/.-])\d{1,2}\1(?:\d{4}|\d{2}))\b",  # 2025/11/24, 24.11.2025
        r"\d{2,4}\s?[年년]\s?\d{1,2}\s?[月월]\s?\d{1,2}\s?[日일]|\d{1,2}\s?[時时点點시]\s?(?:\d{1,2}\s?[分분]\s?)?(?:\d{1,2}\s?[秒초])?",
        rf"(?<![\d.])\d{{1,2}}[:：]\d{{2}}(?:[:：]\d{{2}}(?:[.,]\d{{1,9}})?)?(?!\d){_HALF}?(?-i:{_ZONE})?",  # 10:15:20.5Z
        rf"(?<!\w){_NTH}\s(?:of\s|de\s)?[^\W\d_]{{3,12}}\.?,?\s(?:de\s)?(?:19|20)\d{{2}}\b",  # 24 November 2025, in any language
        rf"(?<!\w){_NTH}\s(?:of\s|de\s)?{_MONTH}(?!\w)",  # 24. Nov
        rf"(?<![\w.])\d{{1,2}}(?:\.\d{{2}})?(?:{_HALF}|\s?Uhr(?:\s\d{{1,2}}\b)?|\s?o'clock|h\d{{2}}\b)",  # 10 am, 10.15 Uhr, 10h15
        r"(?<![\w.])1\d{9}(?:\d{3}|\d{6}|\.\d{1,9})?\b",  # seconds, milliseconds, microseconds since the epoch
    )
)
_DAY_BEHIND = re.compile(rf"\s{_NTH}(?![\w:])(?:,?\s(?:de\s|of\s)?\d{{4}}\b)?", re.IGNORECASE)
_MONTH_BEFORE = re.compile(rf"(?<!\w){_MONTH}$", re.IGNORECASE)
_WEEKDAY = re.compile(
    rf"(?<!\w)(?:{'|'.join(_WEEKDAYS[:-3])})|星期[一二三四五六日天]|[月火水木金土日]曜日|[월화수목금토일]요일", re.I
)
_ABBREVIATED = re.compile(r"(?:(?<!\w)[^\W\d_]{2,13}\.?,|(?<!\w)(?:mon|tue|wed|thu|fri|sat|sun)\.?)\s$", re.IGNORECASE)
_YEAR_BEHIND = re.compile(rf"(?<={MOMENT})\s(?:19|20)\d{{2}}\b")  # as `date` has it
_DIGIT = re.compile(r"\d")
_LOOK_BACK = 18


def without_moments(text: str) -> str:
    """The text with `⌚` for every time and date of the usual shapes, so that texts that differ in them alone are equal.

    ISO 8601, dates with dots, slashes and names of months, 12 and 24 hours, seconds since the epoch, weekdays. What is left
    is no text to show to anyone: a shop's hours are gone from it too. Lines are remembered: most come again.

    >>> without_moments("It is Monday, 24 Nov 2025, 10:15:20 UTC. Be kind.")
    'It is ⌚, ⌚, ⌚. Be kind.'
    """
    return "\n".join(map(_without, text.split("\n")))


@lru_cache(maxsize=4_096)
def _without(line: str) -> str:
    if _DIGIT.search(line):
        for moment in _NUMBERED:
            line = moment.sub(MOMENT, line)
        line = _without_months(line)
    small = line.lower()
    if any(day in small for day in _WEEKDAYS):
        line = _WEEKDAY.sub(MOMENT, line)
    if MOMENT in line:
        *before, last = _YEAR_BEHIND.sub("", line).split(MOMENT)
        line = MOMENT.join([*(_without_end(part) for part in before), last])
    return line


def _without_months(line: str) -> str:
    """November 24, 2025: the numbers are found first, and then what stands before them."""
    kept, at = list[str](), 0
    for day in _DAY_BEHIND.finditer(line):
        month = _MONTH_BEFORE.search(line, max(at, day.start() - _LOOK_BACK), day.start())
        if month:
            kept += [line[at : month.start()], MOMENT]
            at = day.end()
    return "".join([*kept, line[at:]]) if kept else line


def _without_end(part: str) -> str:
    """What stands before a moment, without the weekday that it may end with (Mo., Mon)."""
    day = _ABBREVIATED.search(part, max(0, len(part) - _LOOK_BACK))
    return part[: day.start()] if day else part
