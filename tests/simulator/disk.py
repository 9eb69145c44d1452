"""Sealing on a disk that loses power: what was not synced may be there afterwards, or not, or in part.

Real: the sealing, and the files. Simulated: the moment at which it all ends, and what of it had reached the disk.
"""

from __future__ import annotations

import random
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path
from typing import Any
from unittest.mock import patch

from feedback import durable
from feedback.dataset import snapshot, tables
from feedback.dataset.compute import compute
from feedback.dataset.snapshot import SnapshotError
from feedback.settings import WindowSettings
from tests.feedback.builders import AS_OF_US, MemoryFacts, rating, turn

STEPS = 20
"""More than a sealing has."""

FACTS = MemoryFacts([turn("t1"), turn("t2"), rating("a", "t1", "thumbs", True)])


class PowerCut(BaseException):
    """Nothing after this happens."""


class Disk:
    """What reached the disk: the content of files, and which names directories hold, as of their last sync."""

    def __init__(self, chance: random.Random, tell: Callable[[str], object]) -> None:
        self._chance, self._tell = chance, tell
        self.steps_left = 10**6
        self._content: dict[int, bytes] = {}
        self._names: dict[int, set[str]] = {}

    def step(self, what: str) -> None:
        """Something is about to change; or the power is cut before it."""
        self._tell(what)
        self.steps_left -= 1
        if self.steps_left < 0:
            raise PowerCut

    def sync(self, path: Path) -> None:
        """As `feedback.durable._sync`."""
        self.step(f"sync {path.name}")
        inode = path.stat().st_ino
        if path.is_dir():
            self._names[inode] = {inner.name for inner in path.iterdir()}
        else:
            self._content[inode] = path.read_bytes()

    def after_the_cut(self, root: Path) -> None:
        """Make of the files what a machine finds that starts again. The root directory itself was there before."""
        for path in sorted(root.rglob("*"), reverse=True):
            inode, synced = path.stat().st_ino, self._names.get(path.parent.stat().st_ino, set())
            if path.name not in synced and self._chance.random() < 0.5:
                self._tell(f"the name {path.name} is lost")
                shutil.rmtree(path) if path.is_dir() else path.unlink()
            elif path.is_file() and path.read_bytes() != self._content.get(inode):
                kept = path.read_bytes()[: self._chance.randint(0, path.stat().st_size)]
                self._tell(f"{len(kept)} bytes of {path.name} are left")
                path.write_bytes(kept)


@cache
def _content() -> Any:
    return compute(FACTS, AS_OF_US, WindowSettings())


@contextmanager
def _watched(disk: Disk) -> Iterator[None]:
    """Every change that a sealing makes to the disk is a step of it."""

    def before(owner: Any, name: str) -> Any:
        real = getattr(owner, name)

        def stepped(*arguments: Any, **named: Any) -> Any:
            disk.step(f"{name} {getattr(arguments[0], 'name', '')}")
            return real(*arguments, **named)

        return patch.object(owner, name, stepped)

    with ExitStack() as stack:
        for owner, name in ((tables, "write"), (Path, "write_bytes"), (Path, "write_text"), (Path, "rename")):
            stack.enter_context(before(owner, name))
        stack.enter_context(patch.object(durable, "_sync", disk.sync))
        stack.enter_context(patch.object(durable.shutil, "rmtree", lambda *_, **__: None))  # nobody is left to tidy up
        stack.enter_context(patch.object(snapshot, "compute", lambda *_: _content()))
        yield


def simulate(seed: int, tell: Callable[[str], object] = lambda line: None) -> str | None:
    """What was wrong with the snapshots that were there after the power was cut, or after sealing again; None: nothing."""
    chance = random.Random(seed)
    with tempfile.TemporaryDirectory() as name:
        root, disk = Path(name), Disk(chance, tell)
        try:
            with _watched(disk):
                _seal(root)  # an older one is there
                disk.steps_left = chance.randrange(STEPS)
                _seal(root, AS_OF_US + 1)
        except PowerCut:
            tell("the power is cut")
            disk.after_the_cut(root)
        try:
            for manifest in snapshot.list_snapshots(root):
                snapshot.verify(root / manifest.name)
            snapshot.verify(_seal(root, AS_OF_US + 1))
        except (SnapshotError, OSError) as wrong:
            return f"{type(wrong).__name__}: {wrong}"
    return None


def _seal(root: Path, as_of_us: int = AS_OF_US) -> Path:
    return snapshot.seal(FACTS, as_of_us, WindowSettings(), root).path
