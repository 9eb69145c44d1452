"""E-mail addresses, also where their @ is spelt."""

from feedback.privacy.emails import emails


def test_an_address_is_found_where_it_begins_and_ends() -> None:
    assert list(emails("write to ana.maria@example.org today", False)) == [(9, 30, "[email]")]
    assert not list(emails("12 apples @ 3 each", False))


def test_an_at_that_is_spelt_is_one_where_it_is_looked_for() -> None:
    assert list(emails("ana (at) example.org", True)) == [(0, 20, "[email]")]
    assert not list(emails("ana (at) example.org", False))
