import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feedback.privacy.national_ids import ID_NUMBERS, IdNumber, decimal_digits
from feedback.privacy.personal_data import without_personal_data

REAL = [
    ("536-90-4399", "666-90-4399"),
    ("536 90 4399", "536 00 4399"),
    ("AB 12 34 56 C", "ZZ 12 34 56 C"),
    ("36574261809", "36574261890"),
    ("36 574 261 809", "36 574 261 890"),
    ("54362315K", "54362315Z"),
    ("X2482300W", "X2482300A"),
    ("2 95 10 99 126 111 93", "2 95 10 99 126 111 94"),
    ("RCCMNL83S18D969H", "RCCMNL83S18D969I"),
    ("44051401359", "44051401358"),
    ("390.533.447-05", "390.533.447-06"),
    ("360426199101010071", "360426199101010072"),
    ("11010519491231002X", "110105194912310021"),
    ("2341 2341 2346", "2341 2341 2347"),
    ("756.9217.0769.85", "756.9217.0769.84"),
    ("85.07.30-033.28", "85.07.30-033.29"),
    ("BOXW310820HNERXN09", "BOXW310820HNERXN08"),
    ("19640823-3234", "19640823-3235"),
    ("971013-1019901", "971013-1019902"),
    ("bsn 111222333", "bsn 111252333"),
    ("SIN: 123-456-782", "SIN: 123-456-783"),
    ("CPF 39053344705", "CPF 39053344706"),
    ("Social Security number is 536904399", "Social Security number is 666904399"),
    ("Aadhaar no. 234123412346", "Aadhaar no. 234123412347"),
    ("TFN 123 456 782", "TFN 123 456 783"),
    ("CUIT 20-12345678-6", "CUIT 50-12345678-6"),
    ("rodné číslo 736028/5163", "rodné číslo 736028/5164"),
    ("NHS 943 476 5919", "NHS 100 476 5918"),
    ("131052-308T", "131052-308U"),
    ("11.222.333-9", "11.222.333-5"),
    ("1630615123457", "1630615123458"),
    ("112-233-445 95", "112-233-445 94"),
    ("S1234567D", "S1234567A"),
    ("OIB 94577403194", "OIB 94577403195"),
    ("TC Kimlik 10000000146", "TC Kimlik 10000000147"),
    ("我的身分證 A123456789", "我的身分證 A123456788"),
    ("ИНН 500100732259", "ИНН 500100732258"),
    ("マイナンバー 1234 5678 9018", "マイナンバー 1234 5678 9019"),
]
"""One number of each way to write one, and one beside it that fails its check."""


@pytest.mark.parametrize(("real", "beside"), REAL)
def test_a_number_counts_and_the_one_beside_it_does_not(real: str, beside: str) -> None:
    assert without_personal_data(real).endswith("[id]")
    assert without_personal_data(beside) == beside


@pytest.mark.parametrize(
    "kind", [kind for kind in ID_NUMBERS if "A-Z0-9" not in kind.shape], ids=lambda kind: kind.cue or kind.shape
)
def test_every_kind_of_number_can_be_told_by_its_digits(kind: IdNumber) -> None:
    """A number of fewer digits is not asked whether it is of the kind."""
    for number in _of_shape(kind.shape):
        assert kind.digits <= sum(map(str.isdigit, number)) <= kind.digits + 8


def _of_shape(shape: str) -> list[str]:
    found = list[str]()

    @settings(max_examples=10, database=None)
    @given(st.from_regex(shape, fullmatch=True, alphabet=st.characters(codec="ascii")))
    def draw(number: str) -> None:
        found.append(number)

    draw()
    return found


@pytest.mark.parametrize("number", ["111222333", "123-456-782", "39053344705", "536904399", "234123412346"])
def test_a_number_that_many_others_look_like_counts_only_behind_its_name(number: str) -> None:
    assert without_personal_data(f"order {number}") == f"order {number}"


@given(st.text(st.characters(categories=["Nd", "L", "P"]), max_size=12))
def test_the_digits_of_any_script_are_told_in_ours(text: str) -> None:
    digits = decimal_digits(text)
    assert digits == "" or (digits.isascii() and digits.isdecimal())
    assert [int(digit) for digit in digits] == [int(character) for character in text if character.isdecimal()]


def test_a_resident_id_of_an_unknown_county_counts_and_does_not_raise() -> None:
    # python-stdnum's own is_valid raises KeyError on it.
    assert without_personal_data("829901199001011236") == "[id]"
