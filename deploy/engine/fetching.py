"""The smollm2 base for who serves it before anything was trained: fetched and converted in a process of its own."""

from __future__ import annotations

import asyncio
import sys
from asyncio.subprocess import DEVNULL, PIPE
from pathlib import Path

from models.errors import JobFailed

FETCHING = "the base model SmolLM2 is being fetched and converted, which takes a minute or two"
_SENTENCE = 1_000  # characters of it


async def fetch_smollm2(state: Path) -> None:
    """Have it in the state directory `state`: at once where it is there; who else fetches it is waited for.

    Raises JobFailed with what to do. Cancelled, the process ends and nothing half is left; so it does when we are killed.
    """
    command = (sys.executable, "-P", "-m", "models.smollm2", str(state))
    process = await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=DEVNULL, stderr=PIPE)
    try:
        assert process.stderr is not None
        said = (await process.stderr.read()).decode(errors="replace").strip().splitlines()
        if await process.wait() != 0:
            raise JobFailed(said[-1][-_SENTENCE:] if said else "fetching SmolLM2 was killed: out of memory?")
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
