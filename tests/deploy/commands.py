"""Running `trimtab` as people do, in a folder of its own: its answer and its exit code, in a process of its own or here."""

from __future__ import annotations

import gzip
import json
import multiprocessing
import os
import socket
import subprocess
import sys
from contextlib import ExitStack, chdir
from pathlib import Path
from typing import Any

from tests.deploy.cli.typed import Said, typed

ROOT = Path(__file__).parents[2]
SAMPLE = ROOT / "examples" / "support.jsonl.gz"
FORKED = multiprocessing.get_context("forkserver")
"""Makes processes for a test's own functions out of one that has imported commands: a fresh one imports for seconds."""
FORKED.set_forkserver_preload(["deploy.cli.replay", "hypothesis", "pytest", "tests.deploy.commands"])


def part_of_sample(folder: Path, lines: int = 1_200) -> Path:
    """The beginning of the sample log as a file of its own: where a quarter of it shows the same, in a quarter of the time."""
    path = folder / "part.jsonl"
    path.write_bytes(b"\n".join(gzip.decompress(SAMPLE.read_bytes()).splitlines()[:lines]) + b"\n")
    return path


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


def typed_in(cwd: Path, *words: str | Path, **variables: str) -> Said:
    """Run a command to its end in this process, which has imported what it needs: seconds less than a process of its own."""
    before = dict(os.environ)
    try:
        os.environ.clear()
        os.environ.update(environment(**variables))
        with chdir(cwd):
            return typed(*words)
    finally:
        os.environ.clear()
        os.environ.update(before)


def answer(*words: str | Path, cwd: Path, **variables: str) -> Any:
    """The JSON document of a command that must succeed."""
    said = typed_in(cwd, *words, "--json", **variables)
    assert said.code == 0, said.error
    return json.loads(said.out)


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
