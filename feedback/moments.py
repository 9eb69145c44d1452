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
_WEEKDAY = (
    r"(?:mon|tues|wednes|thurs|fri|satur|sun)day|(?:mon|diens|donners|frei|sams|sonn)tag|mittwoch|sonnabend|(?:lun|mar|mercre|jeu"
    r"|vendre|same)di|dimanche|lunes|martes|miércoles|jueves|viernes|sábado|domingo|(?:lune|marte|mercole|giove|vener)dì|sabato"
    r"|domenica|(?:maan|dins|woens|donder|vrij|zater|zon)dag|星期[一二三四五六日天]|[月火水木金土日]曜日?|[월화수목금토일]요일"
)
_ZONE = r"(?:\s?(?:(?:UTC|GMT)?[+-]\d{1,2}(?::?\d{2})?|Z|[A-Z]{3,4})\b)"
_HALF = r"(?:\s?[ap]\.?m\b\.?)"
_NTH = r"\d{1,2}(?:st|nd|rd|th|er|\.|º)?"
_YEAR = r"(?:,?\s(?:de\s|of\s)?\d{4}\b)"
_MOMENTS = tuple(
    re.compile(shape, re.IGNORECASE)
    for shape in (
        r"\b\d{4}-\d{2}-\d{2}(?:[T_ ]\d{2}-\d{2}(?:-\d{2})?)?",  # 2025-11-24, before any T10:15:20Z; and of file names
        r"\b(?:19|20)\d{6}(?:T?\d{4}(?:\d{2})?Z?)?\b",  # 20251124T101520Z
        r"\b\d{4}[/.]\d{1,2}[/.]\d{1,2}\b|\b\d{1,2}([/.-])\d{1,2}\1(?:\d{4}|\d{2})\b",  # 2025/11/24, 24.11.2025, 11/24/25
        r"\d{2,4}\s?[年년]\s?\d{1,2}\s?[月월]\s?\d{1,2}\s?[日일]|\d{1,2}\s?[時时点點시]\s?(?:\d{1,2}\s?[分분]\s?)?(?:\d{1,2}\s?[秒초])?",
        rf"(?<![\d.])T?\d{{1,2}}[:：]\d{{2}}(?:[:：]\d{{2}}(?:[.,]\d{{1,9}})?)?(?!\d){_HALF}?(?-i:{_ZONE})?",  # 10:15:20.5Z
        rf"\b{_NTH}\s(?:of\s|de\s)?[^\W\d_]{{3,12}}\.?,?\s(?:de\s)?(?:19|20)\d{{2}}\b",  # 24 November 2025, in any language
        rf"\b{_NTH}\s(?:of\s|de\s)?{_MONTH}(?!\w)|\b{_MONTH}\s{_NTH}(?![\w:]){_YEAR}?",  # 24. Nov, November 24th, 2025
        rf"\b\d{{1,2}}(?:\.\d{{2}})?(?:{_HALF}|\s?Uhr(?:\s\d{{1,2}}\b)?|\s?o'clock|h\d{{2}}\b)",  # 10 am, 10.15 Uhr, 10h15
        r"\b1\d{9}(?:\d{3}|\d{6}|\.\d{1,9})?\b",  # seconds, milliseconds, microseconds since the epoch
        rf"\b(?:{_WEEKDAY})",
        rf"[^\W\d_]{{2,13}}\.?,?\s(?={MOMENT})(?<=,\s)|\b(?:mon|tue|wed|thu|fri|sat|sun)\.?\s(?={MOMENT})",  # Mo., ⌚
        rf"(?<={MOMENT})\s(?:19|20)\d{{2}}\b",  # as `date` has the year, at the end
    )
)


@lru_cache(maxsize=1_024)
def without_moments(text: str) -> str:
    """The text with `⌚` for every time and date of the usual shapes, so that texts that differ in them alone are equal.

    ISO 8601, dates with dots, slashes and names of months, 12 and 24 hours, seconds since the epoch, weekdays. What is left
    is no text to show to anyone: a shop's hours are gone from it too.

    >>> without_moments("It is Monday, 24 Nov 2025, 10:15:20 UTC. Be kind.")
    'It is ⌚, ⌚, ⌚. Be kind.'
    """
    for moment in _MOMENTS:
        text = moment.sub(MOMENT, text)
    return text
