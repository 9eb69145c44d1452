from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feedback.moments import MOMENT, without_moments

CLOCKS = {
    "iso": ("Current time: 2025-11-24 10:15:00.", "Current time: 2025-11-24 10:15:20."),
    "iso, another day": ("Now 2025-11-30T23:59:59.123+01:00", "Now 2025-12-01T00:00:01.5Z"),
    "utc": ("It is 10:15 UTC", "It is 09:05 UTC"),
    "twelve hours": ("It is 9:59 AM", "It is 10:00 a.m."),
    "on the hour": ("at 9 am", "at 10 am"),
    "american": ("Today: 11/24/2025", "Today: 1/2/2026"),
    "english": ("Today is Monday, November 24, 2025.", "Today is Tuesday, December 2, 2025."),
    "english, short": ("Mon Nov 24 10:15:20 UTC 2025", "Tue Dec  2 01:02:03 UTC 2025".replace("  ", " ")),
    "ordinal": ("the 1st of May 2025", "the 22nd of June 2025"),
    "german": ("Heute ist Montag, der 24. November 2025, 10:15 Uhr", "Heute ist Freitag, der 5. Dezember 2025, 9:05 Uhr"),
    "german, short": ("Mo., 24.11.2025 10:15:20", "Di., 25.11.2025 00:00:00"),
    "french": ("Nous sommes le lundi 24 novembre 2025, 10h15", "Nous sommes le mardi 2 décembre 2025, 9h05"),
    "spanish": ("Hoy es lunes, 24 de noviembre de 2025", "Hoy es martes, 2 de diciembre de 2025"),
    "russian": ("Сегодня 24 ноября 2025", "Сегодня 2 декабря 2025"),
    "chinese": ("现在是2025年11月24日 10时15分20秒 星期一", "现在是2025年12月2日 9时5分1秒 星期二"),
    "japanese": ("2025年11月24日（月曜日）10時15分", "2025年12月2日（火曜日）9時5分"),
    "seconds": ("epoch 1764000037", "epoch 1764000052"),
    "milliseconds": ("epoch 1764000037123", "epoch 1764000052999"),
    "compact": ("run 20251124T101520Z", "run 20251202T000000Z"),
}  # fmt: skip


@pytest.mark.parametrize(("one", "other"), CLOCKS.values(), ids=CLOCKS.keys())
def test_texts_that_differ_in_their_clock_alone_are_the_same_without_it(one: str, other: str) -> None:
    assert without_moments(one) == without_moments(other)
    assert MOMENT in without_moments(one)


@pytest.mark.parametrize(
    "text",
    [
        "You are Bo.",
        "Version 1.2.3 for 10.15 euros",
        "at most 3 days, 16:9",
        "call 112, room 4711",
        "May I help? Room 5.",
        "K-472",
    ],
)
def test_what_is_no_time_stays(text: str) -> None:
    assert without_moments(text) == text


DATES = st.datetimes(datetime(1970, 1, 1), datetime(2099, 12, 31))


@given(
    DATES, DATES, st.sampled_from(["%Y-%m-%d %H:%M:%S", "%A, %d %B %Y, %I:%M %p", "%B %d, %Y", "%d.%m.%Y %H:%M", "%c"])
)
def test_whatever_the_moment_it_is_gone(one: datetime, other: datetime, form: str) -> None:
    texts = (f"Be kind. It is {moment:{form}}." for moment in (one, other))
    assert len({without_moments(" ".join(text.split())) for text in texts}) == 1
