import doctest

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models import measures


def test_the_examples_in_the_docstrings_hold() -> None:
    result = doctest.testmod(measures)
    assert result.attempted >= 3
    assert result.failed == 0


@given(st.lists(st.tuples(st.floats(0, 1), st.sampled_from([0.0, 1.0])), min_size=1))
def test_calibration_error_is_a_share(points: list[tuple[float, float]]) -> None:
    error = measures.calibration_error([p for p, _ in points], [o for _, o in points])
    assert error is not None
    assert 0 <= error <= 1


def test_a_perfectly_calibrated_bin_has_no_error() -> None:
    assert measures.calibration_error([0.75] * 4, [1, 1, 1, 0]) == 0


def test_nothing_to_judge_has_no_calibration_error_and_no_correlation() -> None:
    assert measures.calibration_error([], []) is None
    assert measures.correlation([1.0, 1.0], [2.0, 3.0]) is None


@given(st.text())
def test_repetition_is_a_share_of_any_text(text: str) -> None:
    assert 0 <= measures.repetition(text) < 1


def test_a_stuck_sampler_is_seen_as_repetition() -> None:
    assert measures.repetition("yes " * 20) > 0.9


@pytest.mark.parametrize(
    ("prompt", "locale", "reply", "match"),
    [
        ("", "de-DE", "Guten Tag, wie kann ich Ihnen heute bei Ihrer Bestellung helfen?", True),
        ("", "en", "Guten Tag, wie kann ich Ihnen heute bei Ihrer Bestellung helfen?", False),
        ("Where is the parcel that I ordered last week?", None, "It is on its way and will arrive tomorrow.", True),
        ("", "en", "ok", None),
        ("hm", None, "It is on its way and will arrive tomorrow.", None),
    ],
)
def test_a_reply_matches_the_language_of_its_locale_or_prompt(
    prompt: str, locale: str | None, reply: str, match: bool | None
) -> None:
    assert measures.language_match(prompt, locale, reply) is match
