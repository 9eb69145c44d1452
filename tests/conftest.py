"""For all tests."""

import gc
import os
import secrets
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from models.imports import keep_imported

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # torch's threads else wait busily, for cores that others here need
gc.disable()  # while torch and its kin are imported: a million objects that live to the end, looked at again and again


class ToldAtOnce:
    """Says which test failed when it does: a run that is cut off has said it."""

    def __init__(self, terminal: pytest.TerminalReporter) -> None:
        self._terminal = terminal

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self._terminal.write_line(f"\n{report.nodeid}: {report.when} failed")


def pytest_sessionstart(session: pytest.Session) -> None:
    plugins = session.config.pluginmanager
    if (terminal := plugins.get_plugin("terminalreporter")) is not None:
        plugins.register(ToldAtOnce(terminal))


LONG = {"test_three_weeks.py", "test_simulator.py", "test_run.py"}
"""Begun early: a long test that begins last keeps one of two workers idle."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.path.name not in LONG)


def pytest_collection_finish(session: pytest.Session) -> None:
    keep_imported()
    gc.enable()


settings.register_profile(
    "the same everywhere",
    max_examples=40,  # they are the same ones each time: who parses, joins or counts asks for more
    derandomize=True,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("the same everywhere")


@pytest.fixture(scope="session")
def kafka_servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a real Kafka: one broker for the run (mark such tests `kafka`)."""
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
