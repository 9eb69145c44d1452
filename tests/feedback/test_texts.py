import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feedback.texts import is_blank, normal_form, storable

INVISIBLE = {
    "zero width space": "\u200b",
    "byte order mark": "\ufeff",
    "braille blank": "\u2800",
    "variation selector": "\ufe0f",
    "ideographic variation selector": "\U000e0100",
    "soft hyphen": "\u00ad",
    "hangul filler": "\u3164",
    "hangul choseong filler": "\u115f",
    "half width hangul filler": "\uffa0",
    "word joiner": "\u2060",
    "joiner": "\u200d",
    "right-to-left mark": "\u200f",
    "grapheme joiner": "\u034f",
    "mongolian vowel separator": "\u180e",
    "tag": "\U000e0041",
    "an object that is not there": "\ufffc",
    "nul": "\x00",
    "escape": "\x1b",
    "next line": "\x85",
    "no-break and wide spaces": "\u00a0 \u3000\u202f",
    "several": "\u200b\n\ufeff\u2800 \u00ad",
    "nothing": "",
}


@pytest.mark.parametrize("text", INVISIBLE.values(), ids=INVISIBLE.keys())
def test_what_nobody_sees_is_blank(text: str) -> None:
    assert is_blank(text)


@pytest.mark.parametrize(
    "text", ["👨\u200d👩\u200d👧", "שלום", "\u202eabc\u202c", "\u200bok", "☺\ufe0f", ".", "한", "\ufffd", "⠁"]
)
def test_what_is_seen_is_not_blank_whatever_stands_around_it(text: str) -> None:
    assert not is_blank(text)


@given(st.text(st.characters(categories=("Cc", "Zs", "Zl", "Zp"))))
def test_controls_and_separators_are_blank(text: str) -> None:
    assert is_blank(text)


@given(st.text(), st.characters(categories=("L", "N", "P", "Sc", "Sm"), exclude_characters="\u115f\u1160\u3164\uffa0"))
def test_a_text_with_a_letter_a_digit_or_a_sign_is_not(text: str, seen: str) -> None:
    assert not is_blank(text + seen)


SAME = {
    "composed or not": ("Natürlich, das Café öffnet.", "Natu\u0308rlich, das Cafe\u0301 o\u0308ffnet."),
    "line ends": ("Um neun.\r\nDanke.", "Um neun.\nDanke."),
    "line separator": ("Um neun.\u2028Danke.", "Um neun.\nDanke."),
    "no-break space": ("We open at nine.", "We open\u00a0at nine."),
    "trailing spaces": ("One. \t\nTwo.  ", "One.\nTwo."),
    "wide space": ("朝\u3000九時", "朝 九時"),
    "zero width space": ("nine o'clock", "nine\u200b o'clock"),
    "soft hyphen": ("Öffnungs\u00adzeiten", "Öffnungszeiten"),
    "byte order mark": ("\ufeffyes", "yes"),
    "joiner between letters": ("yes\u200d", "yes"),
    "direction": ("\u200fבתשע", "בתשע"),
    "hidden between a letter and its accent": ("Cafe\u200b\u0301", "Café"),
    "blank lines": ("a\n\n\nb", "a\nb"),
}


@pytest.mark.parametrize(("one", "other"), SAME.values(), ids=SAME.keys())
def test_texts_that_look_alike_have_one_normal_form(one: str, other: str) -> None:
    assert normal_form(one) == normal_form(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("now here", "nowhere"),
        ("x²", "x2"),
        ("Nine", "nine"),
        ("می\u200cخواهم", "میخواهم"),
        ("👨\u200d👩", "👨👩"),
        ("nine.", "nine"),
    ],
)
def test_texts_that_are_seen_to_differ_do_not(one: str, other: str) -> None:
    assert normal_form(one) != normal_form(other)


@given(st.text(), st.sampled_from(["NFC", "NFD"]), st.sampled_from(list(INVISIBLE.values())))
def test_a_normal_form_is_its_own_and_that_of_every_way_to_write_it(text: str, form: str, around: str) -> None:
    normal = normal_form(text)
    assert normal_form(normal) == normal
    assert normal_form(unicodedata.normalize(form, text)) == normal
    assert (normal == "") == is_blank(text)


@given(st.text(st.characters(), max_size=20) | st.text("a\0\ud83d\udc00é", max_size=8))
def test_what_is_stored_is_any_databases_text_and_else_as_it_was(text: str) -> None:
    stored = storable(text)
    assert "\0" not in stored
    assert stored.encode().decode() == stored
    assert len(stored) == len(text)
    assert all(a == b for a, b in zip(stored, text, strict=True) if b != "\0" and not "\ud800" <= b <= "\udfff")
