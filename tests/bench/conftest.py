"""The upstream of bench/gateway.py, in a process of its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from bench.peers.rounds import Upstream


@pytest.fixture(scope="package")
def upstream() -> Iterator[Upstream]:
    made = Upstream(None, words=40, chunks=6)
    yield made
    made.close()
