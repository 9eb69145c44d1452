"""A refusal names the field, and shows what stood there in few characters."""

from feedback.intake.refusal import Refusal, Rejected, shown


def test_a_refusal_is_what_it_says() -> None:
    assert issubclass(Refusal, Exception)
    assert Rejected("bad_value", "turn_id", "it is empty").field == "turn_id"


def test_what_is_shown_is_short() -> None:
    assert len(shown("x" * 10_000)) < 200
