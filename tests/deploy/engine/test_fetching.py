"""Whoever serves fetches the smollm2 base beside itself."""

from __future__ import annotations

import asyncio
import fcntl
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest

from deploy.engine.fetching import fetch_smollm2
from feedback.durable import write_json
from models.bases import MARKER, describe, find_smollm2
from models.errors import JobFailed
from tests.deploy.real_models import make_base
from tests.fakes import until

pytestmark = pytest.mark.slow


async def test_what_is_there_already_is_not_fetched_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    made = make_base(tmp_path)
    bases = tmp_path / "state" / "bases"
    await asyncio.to_thread(shutil.copytree, made.path, bases / "smollm2-0123456789ab")
    (bases / "smollm2-0123456789ab" / MARKER).touch()
    write_json(bases / "smollm2.json", {"directory": "smollm2-0123456789ab"})
    await fetch_smollm2(tmp_path / "state")
    found = find_smollm2(tmp_path / "state")
    assert found == describe(bases / "smollm2-0123456789ab", "smollm2-0123456789ab")


async def test_where_it_can_t_be_fetched_the_sentence_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    with pytest.raises(JobFailed, match=r"^SmolLM2 can't be fetched from the Python registry .* or use `tiny`$"):
        await fetch_smollm2(tmp_path)


async def test_cancelled_while_another_fetches_it_its_process_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[asyncio.subprocess.Process] = []
    start = asyncio.create_subprocess_exec

    async def note(*command: str, **how: Any) -> asyncio.subprocess.Process:
        started.append(await start(*command, **how))
        return started[-1]

    monkeypatch.setattr(asyncio, "create_subprocess_exec", note)
    (tmp_path / "bases").mkdir()
    with (tmp_path / "bases" / ".smollm2.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        fetching = asyncio.create_task(fetch_smollm2(tmp_path))
        await until(lambda: bool(started))
        fetching.cancel()
        with pytest.raises(asyncio.CancelledError):
            await fetching
    assert started[0].returncode == -signal.SIGKILL
