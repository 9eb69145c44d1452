"""The tables of facts: their names and one schema, a row and a batch of them, and what names a partition's progress."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from datetime import date, timedelta
from functools import lru_cache
from pathlib import Path
from typing import Literal

import pyarrow as pa
from msgspec import Struct

from feedback import topics
from feedback.records import Judgement, Rating, Turn, Unjudged, Verdict

TableName = Literal["turns", "ratings", "verdicts"]
TABLES: tuple[TableName, ...] = ("turns", "ratings", "verdicts")
EVENT_TABLES: tuple[TableName, ...] = ("turns", "ratings")
TABLE_OF_TOPIC: dict[str, TableName] = {
    topics.TURNS: "turns",
    topics.RATINGS: "ratings",
    topics.VERDICTS: "verdicts",
}

SCHEMA = pa.schema(
    [
        pa.field("day", pa.string(), nullable=False),
        pa.field("tenant", pa.string(), nullable=False),
        pa.field("event_id", pa.string(), nullable=False),
        pa.field("conversation_id", pa.string(), nullable=False),
        pa.field("turn_id", pa.string()),
        pa.field("occurred_at_us", pa.int64(), nullable=False),
        pa.field("received_at_us", pa.int64(), nullable=False),
        pa.field("content_hash", pa.string(), nullable=False),
        pa.field("record_digest", pa.string(), nullable=False),
        pa.field("partition", pa.int32(), nullable=False),
        pa.field("offset", pa.int64(), nullable=False),
        pa.field("record", pa.string(), nullable=False),
        pa.field("log", pa.string()),
    ]
)
"""One schema for all tables: the columns that are searched, and the whole redacted record as JSON."""

LATEST_US = 2**62
"""Beyond it, and as long before the epoch, nothing happened; every column of times holds it."""

EPOCH, LAST_DAY = date(1970, 1, 1), (date.max - date(1970, 1, 1)).days


class Row(Struct, frozen=True, gc=False):
    """One fact and where in the log it stood."""

    event: Turn | Rating | Judgement
    content_hash: str
    record_digest: str
    """sha256 of the bytes on the log, hex: what an auditor compares."""
    offset: int
    received_at_us: int


class Batch(Struct, frozen=True):
    """A stretch of one partition: its facts, and the offset after its last record (dead-lettered ones included)."""

    topic: str
    partition: int
    rows: tuple[Row, ...]
    next_offset: int


def check(row: Row) -> None:
    """Raises ValueError or OverflowError where a commit would: it takes all its rows or none."""
    event = row.event
    if not (-LATEST_US <= event.occurred_at_us <= LATEST_US and -LATEST_US <= row.received_at_us <= LATEST_US):
        raise ValueError(
            f"no times: it happened at {event.occurred_at_us} us and was received at {row.received_at_us} us"
        )
    if event.occurred_at_us < 0:
        day_of(event.occurred_at_us)  # the calendar ends there sooner
    name = event.verdict_id if isinstance(event, (Verdict, Unjudged)) else event.event_id
    f"{event.tenant}{name}{event.conversation_id}{event.turn_id}".encode()


@contextlib.contextmanager
def held(root: Path, how: int, wait: bool = False) -> Iterator[bool]:
    """Hold the lock of the facts' directory, shared by who reads and alone by who clears away; whether we have it.

    It is the directory's own, so that who only looks makes no file; where there are no facts there is nothing to hold.
    """
    try:
        directory = os.open(root, os.O_RDONLY)
    except FileNotFoundError:
        yield True
        return
    try:
        fcntl.flock(directory, how if wait else how | fcntl.LOCK_NB)
    except BlockingIOError:
        yield False
    else:
        yield True
    finally:
        os.close(directory)


def app_of(log: str, topic: str, partition: int) -> str:
    """Under which name a table's transactions keep how much of a partition is applied."""
    return f"{log}/{topic}/{partition}"


def day_of(at_us: int) -> str:
    return _date(at_us // 86_400_000_000)


@lru_cache(maxsize=1_024)
def _date(day: int) -> str:
    """The date so many days after the epoch; what lies beyond the last one that Python knows counts as that."""
    return str(EPOCH + timedelta(days=min(day, LAST_DAY)))
