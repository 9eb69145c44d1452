"""What the words before a number say of it."""

from feedback.privacy.words import left_of, says_phone, says_thing


def test_a_word_says_what_the_number_behind_it_is() -> None:
    assert says_phone("my phone number is ")
    assert not says_phone("order ")
    assert says_thing("order ")
    assert not says_thing("call me at ")


def test_what_is_left_of_a_place_ends_there() -> None:
    assert left_of("a b c 12", 0, 6) == "a b c "
    assert left_of("a b c 12", 2, 6).endswith("b c ")
