"""One form of digits, dashes and spaces, and the way back."""

from hypothesis import given
from hypothesis import strategies as st

from feedback.privacy.normal import normalised


def test_digits_and_dashes_are_made_one_and_what_is_invisible_goes() -> None:
    normal = normalised("１２‑３\u200b4")
    assert normal.text == "12-34"
    assert normal.place(3, 5) == (3, 6)


@given(st.text())
def test_each_character_has_its_place_in_the_original_in_order(text: str) -> None:
    normal = normalised(text)
    places = [normal.place(at, at + 1) for at in range(len(normal.text))]
    assert all(0 <= start < end <= len(text) for start, end in places)
    assert places == sorted(places)
