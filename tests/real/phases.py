"""How long each part of a long run took, and the most memory that it and all its processes had at a time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

from bench.peers.processes import resident_bytes

LOOK_EVERY_S = 1.0


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
            if size := resident_bytes(root):
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
