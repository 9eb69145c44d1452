"""When something happened, as people's programs write it."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feedback.intake.times import time_us

NOON_US = 1_764_000_000_000_000  # 2025-11-24T16:00:00Z


@pytest.mark.parametrize(
    ("written", "after_us"),
    [
        ("2025-11-24T16:00:00Z", 0),
        ("2025-11-24t16:00:00z", 0),
        ("2025-11-24T16:00:00z", 0),
        ("2025-11-24 16:00:00+00:00", 0),
        ("2025-11-24 16:00:00z", 0),
        ("2025-11-24_16:00:00Z", 0),
        ("2025-11-24T16:00:00-00:00", 0),
        ("2025-11-24T21:30:00+05:30", 0),
        ("2025-11-24t12:00:00-04:00", 0),
        ("2025-11-25T15:59:00+23:59", 0),
        ("2025-11-24T16:00:00.5Z", 500_000),
        ("2025-11-24T16:00:00.123z", 123_000),
        ("2025-11-24T16:00:00.123456789Z", 123_456),
        ("2025-11-24T16:00:00.1234567890123456789Z", 123_456),
        ("2025-11-24T16:00:00.999999999+00:00", 999_999),
        ("20251124T160000Z", 0),
        ("2025-11-24T17:00:00+0100", 0),
    ],
)
def test_every_legal_form_of_rfc_3339_is_taken(written: str, after_us: int) -> None:
    assert time_us(written) == NOON_US + after_us


@pytest.mark.parametrize(
    ("leap", "same"),
    [
        ("2016-12-31T23:59:60Z", "2017-01-01T00:00:00Z"),
        ("2016-12-31t23:59:60z", "2017-01-01T00:00:00Z"),
        ("2016-12-31 15:59:60.25-08:00", "2017-01-01T00:00:00.25Z"),
        ("2015-07-01T05:29:60+05:30", "2015-07-01T00:00:00Z"),
    ],
)
def test_a_leap_second_is_the_first_second_of_the_next_day(leap: str, same: str) -> None:
    assert time_us(leap) == time_us(same)


@pytest.mark.parametrize("written", [1_764_000_000, 1_764_000_000.0, "1764000000", "1764000000.0", " 1764000000 "])
def test_seconds_count_as_seconds_as_number_and_as_text(written: str | float) -> None:
    assert time_us(written) == NOON_US


def test_seconds_as_text_keep_their_microseconds() -> None:
    assert time_us("1764000000.123456") == NOON_US + 123_456
    assert time_us("1764000000.123456789") == NOON_US + 123_457


@pytest.mark.parametrize(
    ("factor", "unit"), [(1_000, "milliseconds"), (1_000_000, "microseconds"), (10**9, "nanoseconds")]
)
@pytest.mark.parametrize("form", [int, float, str])
@pytest.mark.parametrize("seconds", [946_684_800, 1_764_000_000, 2_000_000_000])
def test_other_units_are_refused_by_their_name(factor: int, unit: str, form: type, seconds: int) -> None:
    with pytest.raises(ValueError, match=rf"{unit} since the epoch: send seconds \({seconds}(\.\d+)?\)"):
        time_us(form(seconds * factor))


@pytest.mark.parametrize(
    "written",
    ["2025-11-24T16:00:00", "2025-11-24t16:00:00.123456789", "2025-11-24 16:00", "2025-11-24", "2016-12-31T23:59:60"],
)
def test_a_time_without_an_offset_is_refused_by_that_name(written: str) -> None:
    with pytest.raises(ValueError, match="no offset"):
        time_us(written)


@pytest.mark.parametrize(
    "written",
    [
        "",
        "yesterday",
        "2025-11-24T24:00:00Z",
        "2025-11-24T16:00:60Z",  # no leap second ends such a minute
        "2025-11-24T23:59:61Z",
        "2025-02-30T16:00:00Z",
        "2025-11-24T16:00:00+24:00",
        "2025-11-24T16:00:00+01:00[Europe/Berlin]",
        "Mon, 24 Nov 2025 16:00:00 GMT",
        "٢٠٢٥-11-24T16:00:00Z",
        "nan",
        "inf",
        "0x693",
        "1_764_000_000",
        "١٧٦٤٠٠٠٠٠٠",
        float("nan"),
    ],
)
def test_what_is_no_time_is_refused_with_a_sentence_about_what_to_send(written: str | float) -> None:
    with pytest.raises(ValueError, match=r"2025-11-24T16:00:00Z|hour|minute|second|day|offset|month"):
        time_us(written)


@settings(max_examples=100)
@given(
    st.text()
    | st.integers()
    | st.floats()
    | st.from_regex(r"\d{4}-\d\d-\d\d[tT ]\d\d:\d\d:\d\d(\.\d+)?([zZ]|[+-]\d\d:\d\d)")
)
def test_whatever_is_written_is_a_time_or_a_value_error(written: str | float) -> None:
    with contextlib.suppress(ValueError):
        assert isinstance(time_us(written), int)
