"""What is a telephone number, abroad, at home and behind its name."""

from feedback.privacy.phones import is_phone


def test_a_number_with_its_calling_code_is_one_and_a_bare_one_is_not() -> None:
    assert is_phone("+49 30 901820", "4930901820", "", False, None)
    assert not is_phone("12345678", "12345678", "", False, None)
    assert is_phone("12345678", "12345678", "my phone is ", True, None)
