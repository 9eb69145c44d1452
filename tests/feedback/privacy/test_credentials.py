"""Keys by their prefixes, and what is said to be a password."""

from feedback.privacy.credentials import keys, passwords


def test_a_key_is_found_by_its_prefix() -> None:
    text = "my key sk-abcdefghijklmnopqrstuvwxyz0123456789ABCD end"
    assert list(keys(text.encode(), text)) == [(7, 50, "[secret]")]
    assert not list(keys(b"task-force", "task-force"))


def test_a_password_is_what_is_said_to_be_one() -> None:
    text = "my password is hunter2x ok"
    assert list(passwords(text.encode(), text)) == [(15, 23, "[secret]")]
