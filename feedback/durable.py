"""Files and directories that are there as a whole or not at all, whatever is killed, their hashes, and whether the disk has room.

For everybody.
"""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import secrets
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

RESERVE_BYTES = 64_000_000
"""What is kept for finishing what has begun and for decisions; what is new is refused before."""

LOW_BYTES = 2_000_000_000
"""With less than this left somebody should be told: a training or a busy day takes it."""

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


def free_bytes(path: Path) -> float:
    """Bytes that we may still write where `path` lies; NaN where nobody can say."""
    return _blocks(path, "f_bavail")


def size_bytes(path: Path) -> float:
    """Bytes that the disk of `path` holds in all; NaN where nobody can say."""
    return _blocks(path, "f_blocks")


def _blocks(path: Path, which: str) -> float:
    try:
        found = os.statvfs(path)
    except OSError:
        return math.nan
    return float(getattr(found, which) * found.f_frsize)


def is_full(error: BaseException) -> bool:
    """Whether an error says that the disk (or our share of it) is full: Python's, SQLite's and delta-rs' words for it."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    if isinstance(error, sqlite3.OperationalError) and "is full" in str(error):
        return True
    return "No space left" in str(error)


def make_sure_of_room(path: Path) -> None:
    """For what breaks badly on a full disk. Raises OSError as a full disk does, while there is a little room left."""
    if free_bytes(path) < RESERVE_BYTES:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
