"""Files and directories that are there as a whole or not at all, whatever is killed, and their hashes. For everybody."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

_BLOCK = 1 << 20
_ABANDONED_S = 3_600


def sha256_file(path: Path) -> str:
    """Hex sha256 of a file's bytes."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def canonical(value: Any) -> bytes:
    """The one JSON text of a value: sorted keys, no spaces, UTF-8."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def write_json(path: Path, value: Any) -> None:
    """Write `value` as JSON to `path`, all of it or nothing."""
    fresh = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    with fresh.open("wb") as file:
        file.write(json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False).encode())
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)


class Staged:
    """A directory under construction; `publish` gives it its name."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def publish(self, name: str, marker: str | None = None, seal: str = "") -> Path:
        """Make it `name` beside where it was built, all at once, its marker (which says `seal`) written last; what is there
        already stands, also where another process was first."""
        target = self.path.parent / name
        if target.exists():
            return target
        for path in sorted(self.path.rglob("*")):
            _sync(path)
        if marker:
            (self.path / marker).write_text(seal)
            _sync(self.path / marker)
        _sync(self.path)
        try:
            self.path.rename(target)
        except OSError:
            if not target.is_dir():
                raise
        _sync(target.parent)
        return target


@contextmanager
def staged(parent: Path) -> Iterator[Staged]:
    """A temporary directory in `parent`, removed at the end unless it was published."""
    parent.mkdir(parents=True, exist_ok=True)
    fresh = parent / f".staged-{secrets.token_hex(4)}"
    fresh.mkdir()
    for left in parent.glob(
        ".staged-*"
    ):  # by a process that was killed; the file system's own clock tells how long ago
        with suppress(FileNotFoundError):  # its process lives, and is done
            if fresh.stat().st_mtime - left.stat().st_mtime > _ABANDONED_S:
                shutil.rmtree(left, ignore_errors=True)
    try:
        yield Staged(fresh)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
