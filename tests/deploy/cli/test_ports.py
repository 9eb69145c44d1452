"""Who listens on a port."""

from __future__ import annotations

import os
import socket
import sys

import pytest

from deploy.cli.ports import taken_by

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells")


@pytest.mark.parametrize(("family", "address"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")])
def test_a_port_is_taken_by_whoever_listens_there_and_free_afterwards(
    family: socket.AddressFamily, address: str
) -> None:
    with socket.socket(family) as listening:
        try:
            listening.bind((address, 0))
        except OSError:
            pytest.skip("this machine has no such addresses")
        port = int(listening.getsockname()[1])
        assert taken_by(port) is None
        listening.listen()
        assert (taken_by(port) or "").startswith(f"process {os.getpid()} (")
    assert taken_by(port) is None
