"""Giving a file's free pages back to the disk, a little at a time: SQLite keeps what was deleted for what comes."""

from __future__ import annotations

import sqlite3
from contextlib import AbstractContextManager

import structlog

from feedback.clock import Clock

SLICE_PAGES, PAUSE_S = 250, 0.005
"""Pages that are given back in one transaction, and how long others may then write."""

KEPT_PAGES = 256
"""So many free pages stay, or an eighth of those in use: what comes next would take them from the disk again."""

CONVERTED_BYTES = 64_000_000
"""A file made before there was this is written anew once, if no more than this is in use: others wait so long."""

INCREMENTAL = 2
log = structlog.get_logger()


def shrink(connection: sqlite3.Connection, lock: AbstractContextManager[object], clock: Clock) -> None:
    """Give back what is free; `lock` is held while the connection is used, and let go again and again.

    What is not done now, because others write or the disk is full, is left for the next time; that is logged.
    """
    try:
        with lock:
            if _pragma(connection, "auto_vacuum") != INCREMENTAL and not _converted(connection):
                return
        while _slice(connection, lock):
            clock.pause(PAUSE_S)
        with lock:
            connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()  # only then is the file itself shorter
    except sqlite3.OperationalError as error:
        log.warning("file_not_shrunk", error=str(error))


def _slice(connection: sqlite3.Connection, lock: AbstractContextManager[object]) -> bool:
    """Whether there may be more."""
    with lock:
        if (spare := _spare(connection)) <= 0:
            return False
        connection.executescript(f"PRAGMA incremental_vacuum({min(spare, SLICE_PAGES)})")  # execute() ends after a page
        return spare > SLICE_PAGES


def _spare(connection: sqlite3.Connection) -> int:
    free = _pragma(connection, "freelist_count")
    return free - max(KEPT_PAGES, (_pragma(connection, "page_count") - free) // 8)


def _converted(connection: sqlite3.Connection) -> bool:
    """Whether the file gives pages back from now on. It has to be written anew for that, so a large one stays as it is."""
    used = _pragma(connection, "page_count") - _pragma(connection, "freelist_count")
    if used * _pragma(connection, "page_size") > CONVERTED_BYTES:
        return False
    connection.execute(f"PRAGMA auto_vacuum = {INCREMENTAL}")
    connection.execute("VACUUM")
    return True


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    return int(connection.execute(f"PRAGMA {name}").fetchone()[0])
