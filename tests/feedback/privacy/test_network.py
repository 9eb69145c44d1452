"""Addresses of machines: IPv4, IPv6 and MAC."""

from feedback.privacy.network import addresses


def test_addresses_are_told_from_times_and_loopback() -> None:
    text = "host 203.0.113.7 and fe80::1ff:fe23:4567:890a, at 10:15:30, mac 00:1a:2b:3c:4d:5e, 127.0.0.1"
    found = {text[start:end]: marker for start, end, marker in addresses(text, text.encode())}
    assert found == {"203.0.113.7": "[ip]", "fe80::1ff:fe23:4567:890a": "[ip]", "00:1a:2b:3c:4d:5e": "[mac]"}
