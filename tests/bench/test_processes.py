"""What /proc says of a tree of processes."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.peers.processes import cores, cpu_s, on_core, resident_bytes, resident_mb, tree
from tests.fakes import until

WORKING = "while True: pass"
PARENT = f"import subprocess, sys; subprocess.run([sys.executable, '-c', '{WORKING}'])"


@pytest.fixture
def parent() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, "-c", PARENT], start_new_session=True)
    yield process
    os.killpg(process.pid, 9)
    process.wait()


@pytest.mark.slow
async def test_the_cpu_and_memory_of_a_process_are_those_of_its_children_too(parent: subprocess.Popen[bytes]) -> None:
    await until(lambda: len(tree(parent.pid)) == 2)
    before = cpu_s(parent.pid)
    await until(lambda: cpu_s(parent.pid) > before + 0.3)  # the parent itself only waits
    child = next(process for process in tree(parent.pid) if process != parent.pid)
    assert resident_mb(parent.pid) > resident_mb(child) > 1


def test_of_a_process_that_is_gone_nothing_is_known() -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    assert (cpu_s(gone.pid), resident_mb(gone.pid)) == (0, 0)


def test_what_is_started_on_a_core_stays_there() -> None:
    one, _ = cores()
    if one is None:
        pytest.skip("there is one core only")
    before = os.sched_getaffinity(0)
    with on_core(one):
        said = subprocess.check_output([sys.executable, "-c", "import os; print(os.sched_getaffinity(0))"], text=True)
    assert said.strip() == str({one})
    assert os.sched_getaffinity(0) == before


def test_memory_is_that_of_a_process_and_of_all_below_it(tmp_path: Path) -> None:
    for process, parent, pages in [(1, 0, 5), (7, 1, 30), (8, 7, 200), (9, 8, 1_000), (10, 1, 7_000)]:
        folder = tmp_path / f"{process}"
        folder.mkdir()
        (folder / "stat").write_text(f"{process} (a ) b) S {parent} 1 1")
        (folder / "statm").write_text(f"99999 {pages} 3 1 0 4 0\n")
    (tmp_path / "8" / "statm").unlink()  # has ended meanwhile
    assert resident_bytes(7, tmp_path) == 1_030 * resource.getpagesize()
    assert resident_bytes(os.getpid(), tmp_path / "none") == 0
