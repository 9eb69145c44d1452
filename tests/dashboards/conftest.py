"""Prometheus and promtool, and a real Prometheus server that has scraped what there is to scrape."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.dashboards.documents import ALERTS, PROMETHEUS, ROOT, read_yaml

WITHIN_S = 60.0
SCRAPES = 4
"""A rate wants two of them; what changes between two scrapes wants some more."""


@dataclass(frozen=True)
class Target:
    """Where one role serves /metrics."""

    role: str
    address: str


@dataclass(frozen=True)
class Server:
    """A running Prometheus."""

    url: str

    def query(self, expr: str) -> list[dict[str, Any]]:
        """The result of an instant query; fails with Prometheus' own words where the expression is wrong."""
        answer = httpx.post(f"{self.url}/api/v1/query", data={"query": expr}, timeout=10).json()
        assert answer["status"] == "success", f"{answer.get('error')}: {expr}"
        result: list[dict[str, Any]] = answer["data"]["result"]
        return result

    def get(self, path: str) -> Any:
        return httpx.get(f"{self.url}/api/v1/{path}", timeout=10).raise_for_status().json()["data"]


def tool(name: str) -> str:
    """Path of a program of the Debian package `prometheus`; without it the test is skipped, in CI it fails."""
    found = shutil.which(name)
    if found is None:
        reason = f"{name} is not installed: apt-get install --no-install-recommends prometheus"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return found


def wait_for(true: Callable[[], bool], what: str, within_s: float = WITHIN_S) -> None:
    """Return once `true()`; fails after `within_s` seconds, saying what did not come about."""
    looked, pause = time.monotonic(), threading.Event()
    deadline = looked + within_s
    while not true():
        now = time.monotonic()
        assert now < deadline, f"not within {within_s:.0f} s: {what}"
        pause.wait(max(0.1, min(2.0, 3 * (now - looked))))  # a look that is dear leaves the core to who is waited for
        looked = time.monotonic()


@pytest.fixture(scope="session")
def promtool() -> str:
    return tool("promtool")


@pytest.fixture(scope="package")  # not longer: it is scraped twice a second
def scrape_targets(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sequence[Target]]:
    """What to scrape: a process in which all that can happen does happen."""
    folder = tmp_path_factory.mktemp("exposing")
    command = [sys.executable, "-m", "tests.dashboards.exposing", str(folder)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        yield [Target("controller", f"127.0.0.1:{int(process.stdout.readline())}")]
        process.stdin.close()
        process.wait(30)


@pytest.fixture(scope="package")
def prometheus(scrape_targets: Sequence[Target], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running_prometheus(scrape_targets, tmp_path_factory.mktemp("prometheus")) as server:
        yield server


@contextmanager
def running_prometheus(targets: Sequence[Target], folder: Path) -> Iterator[Server]:
    """A Prometheus with our configuration and rules, but these targets, that has scraped each of them some times."""
    program = tool("prometheus")
    shutil.copy(ALERTS, folder)
    (folder / "prometheus.yml").write_text(yaml.safe_dump(_configuration(targets)))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    command = [
        program,
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address={address}",
    ]
    with (folder / "log").open("w") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        server = Server(f"http://{address}")
        try:
            wait_for(lambda: _scraped(server, process, len(targets)), f"{SCRAPES} scrapes, see {folder / 'log'}")
            yield server
        finally:
            process.terminate()
            process.wait(30)


def _configuration(targets: Sequence[Target]) -> dict[str, Any]:
    configuration: dict[str, Any] = read_yaml(PROMETHEUS)
    configuration["global"] = {"scrape_interval": "500ms", "evaluation_interval": "500ms", "scrape_timeout": "500ms"}
    configuration["scrape_configs"][0]["static_configs"] = [
        {"targets": [target.address], "labels": {"role": target.role}} for target in targets
    ]
    return configuration


def _scraped(server: Server, process: subprocess.Popen[bytes], targets: int) -> bool:
    assert process.poll() is None, "Prometheus ended"
    try:
        ready = httpx.get(f"{server.url}/-/ready", timeout=10).is_success
    except httpx.TransportError:
        return False
    return ready and len(server.query(f'sum_over_time(up{{job="trimtab"}}[2m]) >= {SCRAPES}')) == targets
