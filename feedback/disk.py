"""Room on a disk: how much is left, and whether an error says that there is none."""

from __future__ import annotations

import errno
import math
import os
import sqlite3
from pathlib import Path

RESERVE_BYTES = 64_000_000
"""What is kept for finishing what has begun and for decisions; what is new is refused before."""

LOW_BYTES = 2_000_000_000
"""With less than this left somebody should be told: a training or a busy day takes it."""


def free_bytes(path: Path) -> float:
    """Bytes that we may still write where `path` lies; NaN where nobody can say."""
    try:
        found = os.statvfs(path)
    except OSError:
        return math.nan
    return float(found.f_bavail * found.f_frsize)


def size_bytes(path: Path) -> float:
    """Bytes that the disk of `path` holds in all; NaN where nobody can say."""
    try:
        found = os.statvfs(path)
    except OSError:
        return math.nan
    return float(found.f_blocks * found.f_frsize)


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
