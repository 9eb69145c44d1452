"""The gateway as a process of its own: what it says of itself, and that it ends in order."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.deploy.commands import ROOT, environment
from tests.deploy.postgres import fresh, stopped
from tests.fakes import DEADLINE_S, until

pytestmark = pytest.mark.slow
CHAT = {"model": "trimtab", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 5}


@dataclass
class Process:
    """A running gateway."""

    process: subprocess.Popen[bytes]
    port: int
    admin: int

    async def waits_for(self) -> str | None:
        """What /readyz says is missing."""
        async with httpx.AsyncClient(timeout=DEADLINE_S) as client:
            try:
                answer = await client.get(f"http://127.0.0.1:{self.admin}/readyz")
            except httpx.TransportError:
                return "not there yet"
        return str(answer.json()["reason"]) if answer.status_code == 503 else None

    async def ready(self) -> bool:
        return await self.waits_for() is None

    async def away(self) -> bool:
        return "the control database does not answer since" in (await self.waits_for() or "")

    async def says(self, path: str) -> tuple[int, dict[str, Any]]:
        """Status and answer of a path of the public port."""
        async with httpx.AsyncClient(timeout=DEADLINE_S) as client:
            answer = await client.get(f"http://127.0.0.1:{self.port}{path}")
        return answer.status_code, dict(answer.json())

    async def chat(self) -> int:
        async with httpx.AsyncClient(timeout=DEADLINE_S) as client:
            return (await client.post(f"http://127.0.0.1:{self.port}/v1/chat/completions", json=CHAT)).status_code


@contextmanager
def gateway(folder: Path, control_url: str | None = None) -> Iterator[Process]:
    """Without a control database of its own it has no base model either."""
    from tests.deploy.real_models import make_base

    port, admin = free_port(), free_port()
    if control_url is not None:
        (folder / "trimtab.toml").write_text(f'[base]\nname = "{make_base(folder).path}"\n')
    addresses = ["--port", str(port), "--admin-port", str(admin), "--state", str(folder / "state")]
    process = subprocess.Popen(
        [sys.executable, "-m", "deploy.cli", "gateway", *addresses],
        cwd=folder,
        env=environment(TRIMTAB_CONTROL__URL=control_url or "", PYTHONPATH=str(ROOT)),
    )
    try:
        yield Process(process, port, admin)
    finally:
        process.kill()
        process.wait()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


async def test_readyz_says_that_the_control_database_is_away_and_the_gateway_stops_in_order_all_the_same(
    postgres: str, tmp_path: Path
) -> None:
    with fresh(postgres, "role") as url, gateway(tmp_path, url) as running:
        await until(running.ready)
        with stopped(url):
            await until(running.away)
            assert await running.chat() == 200
            assert await running.says("/readyz?duty=chat") == (200, {"status": "ready"})
            assert await running.says("/readyz?duty=intake") == (200, {"status": "ready"})
            assert await running.says("/readyz") == (
                503,
                {"status": "not ready", "duties": {"chat": "ready", "intake": "ready"}},
            )
        await until(running.ready)
        with stopped(url):
            await until(running.away)
            running.process.terminate()
            assert await asyncio.to_thread(running.process.wait, DEADLINE_S) == 0


async def test_without_a_model_events_are_taken_and_the_public_port_says_which_duty_waits(tmp_path: Path) -> None:
    with gateway(tmp_path) as running:
        await until(lambda: no_base(running), "the gateway to miss its base model")
        assert await running.says("/readyz") == (
            503,
            {"status": "not ready", "duties": {"chat": "not ready", "intake": "ready"}},
        )
        assert await running.says("/readyz?duty=chat") == (503, {"status": "not ready"})
        assert await running.says("/healthz") == (200, {"status": "ok"})
        status, said = await running.says("/v1/chat")
        assert (status, said["error"]["code"]) == (404, "not_found")
        assert "POST /v1/chat/completions" in said["error"]["message"]
        assert "GET|HEAD /readyz" in said["error"]["message"]
        assert await running.chat() == 503


async def no_base(running: Process) -> bool:
    return "no base model yet" in (await running.waits_for() or "")
