"""How long each part of a long run took, and the most memory that it and all its processes had at a time."""

from __future__ import annotations

import resource
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

LOOK_EVERY_S = 1.0
PROC = Path("/proc")


@dataclass(frozen=True)
class Phase:
    """One that is over."""

    name: str
    seconds: float
    peak_bytes: int | None
    """Resident, of this process and those below it, what they share counted for each; None where there is no /proc."""


class Phases:
    """Says when one begins and what it took; knows the one under way."""

    def __init__(self, say: Callable[[str], None], root: int) -> None:
        self._say, self._root = say, root
        self._began = time.monotonic()
        self.over: list[Phase] = []
        self.now: str | None = None

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Measure the block. What it raises passes through, and `now` goes on naming it."""
        self.now, began = name, time.monotonic()
        self._say(f"\n== {len(self.over) + 1}. {name}")
        with _peak(self._root) as peak:
            yield
        ended = Phase(name, time.monotonic() - began, max(peak) if peak else None)
        self.over.append(ended)
        self._say(f"== {name}: {ended.seconds:.0f} s, {gigabytes(ended.peak_bytes)} at most")
        self.now = None

    @property
    def where(self) -> str:
        """The phase under way, or the one that something was raised in."""
        return f"phase {len(self.over) + 1}, {self.now}" if self.now else "no phase"

    @property
    def seconds(self) -> float:
        """Since the first one could begin."""
        return time.monotonic() - self._began

    def document(self) -> list[dict[str, Any]]:
        """Those that are over, as JSON values."""
        return [asdict(phase) for phase in self.over]


def gigabytes(size: int | None) -> str:
    """For a person."""
    return "unknown memory" if size is None else f"{size / 1e9:.1f} GB"


@contextmanager
def _peak(root: int) -> Iterator[list[int]]:
    """Sizes as they were seen during the block."""
    seen: list[int] = []
    over = threading.Event()

    def look() -> None:
        while True:
            if size := tree_bytes(root):
                seen.append(size)
            if over.wait(LOOK_EVERY_S):
                return

    looking = threading.Thread(target=look, daemon=True)
    looking.start()
    try:
        yield seen
    finally:
        over.set()
        looking.join()


def tree_bytes(root: int, proc: Path = PROC) -> int:
    """Resident memory of a process and all below it; 0 where `proc` tells nothing.

    What they share counts for each: telling it apart (PSS) walks every page, and made a training a third slower.
    """
    below: dict[int, list[int]] = defaultdict(list)
    for stat in proc.glob("[0-9]*/stat"):
        with suppress(OSError, ValueError, IndexError):  # it has ended
            below[int(stat.read_text().rpartition(")")[2].split()[1])].append(int(stat.parent.name))
    pages, waiting = 0, [root]
    while waiting:
        process = waiting.pop()
        waiting += below[process]
        with suppress(OSError):
            pages += int((proc / str(process) / "statm").read_text().split()[1])
    return pages * resource.getpagesize()
