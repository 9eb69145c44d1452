"""A base and an adapter as a training leaves them, and one server of that base for all tests that leave it as it was."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Generator, Iterator
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest

from deploy.engine.vllm.replica import Replica
from models.bases import Base, find_base
from models.probes import Probe
from tests.engine.server import RUNNING, SERVED_AS, Vllm, need, vllm
from tests.fakes import CLOCK
from tests.models.conftest import TINY, small_spec, start_job
from tests.models.snapshots import seal, support_log

TOOLS = ("--enable-auto-tool-choice", "--tool-call-parser=hermes")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """What the servers have told is shown with a failure."""
    report = yield
    if report.failed:
        report.sections += [(f"log of {server.url}, {server.log}", server.told()) for server in RUNNING]
    return report


@dataclass(frozen=True)
class Trained:
    """A candidate directory and the base it was trained on."""

    base: Base
    candidate: Path
    max_length: int

    @property
    def adapter(self) -> Path:
        """What an engine loads."""
        return self.candidate / "adapter"

    def probes(self) -> list[tuple[Probe, float]]:
        """The probes that were recorded at training: nats per token."""
        items = json.loads((self.candidate / "report.json").read_bytes())["probes"]["items"]
        return [(Probe(item["messages"], item["reply"]), float(item["candidate_logprob"])) for item in items]


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """The tiny base and a candidate, from one real training."""
    need()
    root = tmp_path_factory.mktemp("trained")
    spec = small_spec(seal(root / "snapshot", support_log(300)), root / "state")
    job = start_job(spec, root / "spec.json")
    out, err = job.communicate(timeout=600)
    assert job.returncode == 0, err
    base = find_base(spec.base, TINY, root / "state")
    assert base is not None
    return Trained(base, Path(json.loads(out.splitlines()[-1])["path"]), spec.base.max_length)


@pytest.fixture(scope="session")
def server(trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vllm]:
    """One float32 server for all tests that neither end nor spoil it."""
    with vllm(trained.base, tmp_path_factory.mktemp("vllm"), options=TOOLS) as running:
        yield running


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as opened:
        yield opened


@pytest.fixture
async def replica(server: Vllm, session: aiohttp.ClientSession) -> AsyncIterator[Replica]:
    """That server's client. What is loaded is unloaded before a test and after it."""
    client = Replica(session, server.url, CLOCK)
    await _emptied(client)
    yield client
    await _emptied(client)


async def _emptied(client: Replica) -> None:
    for name in await client.models():
        if name != SERVED_AS:
            await client.unload(name)
