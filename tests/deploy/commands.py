"""Running `trimtab` as people do: a process of its own, its answer and its exit code."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
SAMPLE = ROOT / "examples" / "support.jsonl.gz"


def environment(**variables: str) -> dict[str, str]:
    """Ours, without a setting of Trimtab's that happens to be there."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TRIMTAB_")}
    told = {"PYTHONFAULTHANDLER": "1"}  # what ends it without a word of Python's is told with its stacks
    return kept | {"PYTHONSAFEPATH": "1", "COLUMNS": "120"} | told | variables


def trimtab(*arguments: str | Path, cwd: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(
        [sys.executable, "-m", "deploy.cli", *map(str, arguments)],
        cwd=cwd,
        env=environment(**variables),
        capture_output=True,
        text=True,
        timeout=1_000,
        check=False,
    )


def answer(*arguments: str | Path, cwd: Path, **variables: str) -> Any:
    """The JSON document of a command that must succeed."""
    done = trimtab(*arguments, "--json", cwd=cwd, **variables)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def free_ports(count: int) -> int:
    """The first of so many ports in a row that nobody listens on; who asks is of the xdist group "whole loop"."""
    for first in range(21_000, 30_000, count):
        with ExitStack() as probes:
            try:
                for port in range(first, first + count):
                    probes.enter_context(socket.socket()).bind(("127.0.0.1", port))
                return first
            except OSError:
                continue
    raise AssertionError("no free ports")
