"""Bank accounts and cards, by their checksums."""

from feedback.privacy.accounts import iban_length, is_card, is_card_behind_its_name


def test_an_iban_is_as_long_as_its_country_has_it_in_groups_or_not() -> None:
    assert iban_length("DE89 3704 0044 0532 0130 00 and") == 27
    assert iban_length("DE89370400440532013000") == 22
    assert iban_length("DE88 3704 0044 0532 0130 00") == 0


def test_a_card_has_a_checksum_and_behind_its_name_no_groups() -> None:
    assert is_card("4539 5787 6362 1486", "4539578763621486")
    assert not is_card("4539 5787 6362 1487", "4539578763621487")
    assert is_card_behind_its_name("4539578763621486", "my card is ")
    assert not is_card_behind_its_name("4539578763621486", "my order is ")
