"""When something happened, as programs write it: every form of RFC 3339, or seconds since the epoch. Nothing is guessed.

A number that can only be milliseconds, microseconds or nanoseconds is refused by that name, and so is a time without an offset:
either may be an hour, or fifty thousand years, beside what was meant.
"""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_EVEN, Decimal

_NUMBER = re.compile(r"\s*([+-]?[0-9]{1,30}(?:\.[0-9]{0,30})?)\s*")
_RFC_3339 = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})[Tt _]([0-9]{2}:[0-9]{2}):([0-9]{2})(\.[0-9]+)?([Zz]|[+-][0-9]{2}:[0-9]{2})?"
)
_UNITS: tuple[tuple[str, int], ...] = (("milliseconds", 10**3), ("microseconds", 10**6), ("nanoseconds", 10**9))
_OTHER_UNITS = 10**11  # seconds of the year 5138, milliseconds of 1973
_WHAT_TO_SEND = "send RFC 3339 with an offset, like 2025-11-24T16:00:00Z, or seconds since the epoch"
_NO_OFFSET = "has no offset (end it with Z or +00:00)"
_LEAP = 60


def time_us(value: str | float) -> int:
    """Microseconds since the epoch of an RFC 3339 time with an offset, or of seconds, as number or as text.

    Digits beyond microseconds are cut. A leap second is the first second of the next day, as POSIX counts. Raises ValueError
    with a sentence that goes on from "occurred_at is …: ".
    """
    if not isinstance(value, str):
        return _of_seconds(value)
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        return _of_text(value)
    if moment.tzinfo is None:
        return _of_text(value)
    return round(moment.timestamp() * 1_000_000)


def _of_seconds(seconds: float | Decimal) -> int:
    if -_OTHER_UNITS < seconds < _OTHER_UNITS:
        return round(seconds * 1_000_000)
    if not math.isfinite(seconds):
        raise ValueError(f"no number: {_WHAT_TO_SEND}")
    if (unit := _unit(seconds)) is not None:
        name, factor = unit
        raise ValueError(
            f"{name} since the epoch: send seconds ({_plain(seconds, factor)}), or RFC 3339 with an offset"
        )
    return int(seconds) * 1_000_000


def _unit(value: float | Decimal) -> tuple[str, int] | None:
    """The unit in which a number lies between 1973 and 2286, where it does so in none but that one."""
    return next((unit for unit in _UNITS if 10**8 <= abs(int(value)) // unit[1] < 10**10), None)


def _plain(value: float | Decimal, factor: int) -> str:
    seconds = round(Decimal(value) / factor, 6)
    return f"{seconds:f}".rstrip("0").rstrip(".")


def _of_text(text: str) -> int:
    """What Python's own reader does not take."""
    if number := _NUMBER.fullmatch(text):
        seconds = Decimal(number[1])
        return _of_seconds(seconds if _unit(seconds) else seconds.quantize(Decimal("0.000001"), ROUND_HALF_EVEN))
    if (written := _RFC_3339.fullmatch(text)) is None:
        raise ValueError(_NO_OFFSET if _is_naive(text) else f"no time: {_WHAT_TO_SEND}")
    day, minute, second, fraction, offset = written.groups()
    if offset is None:
        raise ValueError(_NO_OFFSET)
    leap = int(second) == _LEAP
    parts = f"{day}T{minute}:{'59' if leap else second}{(fraction or '')[:7]}{offset.upper()}"
    try:
        moment = datetime.fromisoformat(parts).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise ValueError(f"{error}: {_WHAT_TO_SEND}") from None
    if leap and (moment.hour, moment.minute) != (23, 59):
        raise ValueError("a second 60 is a leap second: only 23:59 UTC has one")
    return round((moment + timedelta(seconds=leap)).timestamp() * 1_000_000)


def _is_naive(text: str) -> bool:
    try:
        return datetime.fromisoformat(text).tzinfo is None
    except ValueError:
        return False
