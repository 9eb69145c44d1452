"""For all tests."""

import atexit
import gc
import os
import secrets
from collections.abc import Iterator

import pytest

gc.disable()  # while torch and its kin are imported: a million objects that live to the end, looked at again and again


def pytest_collection_finish(session: pytest.Session) -> None:
    gc.freeze()
    atexit.register(gc.unfreeze)  # at the end everything may go: some libraries report what outlives them
    gc.enable()


@pytest.fixture(scope="session")
def kafka_servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a real Kafka: one broker for the run (mark such tests `xdist_group("kafka")`)."""
    from tests.kafka.broker import broker

    if given := os.environ.get("TRIMTAB_TEST_KAFKA"):
        yield given
    else:
        with broker(tmp_path_factory.mktemp("kafka")) as running:
            yield running.servers


@pytest.fixture
def prefix() -> str:
    """What this test's topics and groups begin with, so that they are its own."""
    return f"{secrets.token_hex(4)}."
