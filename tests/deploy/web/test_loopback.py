"""Only an address of this machine alone is loopback."""

from __future__ import annotations

import pytest

from deploy.web.loopback import is_loopback


@pytest.mark.parametrize(
    ("host", "alone"),
    [
        ("127.0.0.1", True), ("127.8.8.8", True), ("localhost", True), ("::1", True), ("0.0.0.0", False), ("::", False),
        ("10.0.0.1", False), ("example.org", False), ("localhost.example.org", False), ("127.0.0.1.nip.io", False), ("", False),
        (None, False),
    ],
)  # fmt: skip
def test_only_an_address_of_this_machine_alone_is_loopback(host: str | None, alone: bool) -> None:
    assert is_loopback(host) is alone
