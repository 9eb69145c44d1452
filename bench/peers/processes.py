"""Processes as /proc tells of them: CPU and memory of a whole tree, and on which core they run. Linux only."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")
PROC = Path("/proc")


def tree(root: int, proc: Path = PROC) -> list[int]:
    """A process and all that came from it and live; it alone where `proc` tells nothing."""
    children: dict[int, list[int]] = {}
    for folder in proc.glob("[0-9]*"):
        if fields := _stat(int(folder.name), proc):
            children.setdefault(int(fields[1]), []).append(int(folder.name))
    found = [root]
    for process in found:
        found += children.get(process, [])
    return found


def cpu_s(root: int) -> float:
    """CPU time of a tree, user and system, in seconds; of children that ended too, once they were waited for."""
    ticks = 0
    for process in tree(root):
        if fields := _stat(process):
            ticks += sum(map(int, fields[11:15]))  # utime stime cutime cstime
    return ticks / TICKS


def resident_bytes(root: int, proc: Path = PROC) -> int:
    """What a tree holds in memory; pages that its processes share count for each. 0 where `proc` tells nothing.

    To count those once (PSS) walks every page: reading that each second made a training a third slower.
    """
    pages = 0
    for process in tree(root, proc):
        try:
            pages += int((proc / f"{process}" / "statm").read_text().split()[1])
        except OSError:
            continue
    return pages * PAGE


def resident_mb(root: int) -> float:
    """The same, for people."""
    return resident_bytes(root) / 1e6


@contextmanager
def on_core(core: int | None) -> Iterator[None]:
    """What is started meanwhile runs on this core, with all its threads and children; None: anywhere."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, before if core is None else {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def cores() -> tuple[int | None, int | None]:
    """One for what is measured, and one for what asks and answers it; (None, None) where there is only one."""
    ours = sorted(os.sched_getaffinity(0))
    return (ours[-1], ours[0]) if len(ours) > 1 else (None, None)


def _stat(process: int, proc: Path = PROC) -> list[str]:
    """The fields of /proc/PID/stat after its name, from the state on; none where it is gone."""
    try:
        return (proc / f"{process}" / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []
