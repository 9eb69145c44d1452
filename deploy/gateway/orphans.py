"""The spools of gateways that ended without having sent all: a gateway that lives moves what they hold into its own.

What is moved is durable in the one before it is gone from the other, so after a crash in between it goes out twice, under the
same event id. What was held is a turn that was under way when its gateway died: it is logged as it is held, as aborted.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Sequence
from contextlib import closing, nullcontext
from pathlib import Path

import msgspec
import structlog
from msgspec import Struct

from deploy.errors import Refused
from deploy.gateway import metrics
from deploy.gateway.event_log import Outbox
from deploy.gateway.spool import REFUSED, RUN, RUN_BYTES
from deploy.state import State
from feedback.clock import Clock
from feedback.intake.edge import Record
from streams.log import LogError
from streams.sqlite.connection import BUSY_S, read_sqlite
from streams.sqlite.shrinking import shrink

LOOK_S = 10.0
"""How often a gateway looks for them; also before it tries again where it could not take one over."""

log = structlog.get_logger()
_decode = msgspec.msgpack.Decoder(Record).decode


class _Oldest(Struct, frozen=True):
    """The oldest records of a spool, with the last one's place; `aborted` of them are turns that were under way."""

    records: Sequence[Record]
    place: int
    aborted: int


def waiting(state: State) -> dict[str, int]:
    """How many records wait in each spool that no gateway has, by the file's name; -1 where it can't be read."""
    found = {state.spool(seat).name: _count(state.spool(seat)) for seat in abandoned(state)}
    return {name: records for name, records in found.items() if records}


def abandoned(state: State) -> list[int]:
    """The seats that no gateway has and where one has left a spool."""
    return [seat for seat in state.seats() if not state.seated(seat) and state.spool(seat).exists()]


async def take_over(state: State, outbox: Outbox, clock: Clock) -> None:
    """Until cancelled: of each gateway that ends send what it leaves."""
    empty = set[int]()
    while True:
        orphans = set(await asyncio.to_thread(abandoned, state))
        empty &= orphans  # who takes such a seat may leave something again
        for seat in sorted(orphans - empty):
            try:
                with state.seat(seat):
                    await _move(state.spool(seat), outbox, clock)
            except Refused:  # a gateway has just taken it
                continue
            except Exception as error:  # our own spool is full, say
                log.warning("spool_not_taken_over", spool=state.spool(seat).name, error=str(error)[:300])
                continue
            empty.add(seat)
        await clock.sleep(LOOK_S)


async def _move(path: Path, outbox: Outbox, clock: Clock) -> None:
    moved = 0
    while (oldest := await asyncio.to_thread(_oldest, path)) is not None:
        await outbox.send(oldest.records)
        await asyncio.to_thread(_forget, path, oldest.place, clock)
        metrics.TURNS_ABORTED.inc(oldest.aborted)
        moved += len(oldest.records)
    if moved:
        log.info("spool_taken_over", spool=path.name, records=moved)


def _count(path: Path) -> int:
    try:
        with closing(read_sqlite(path, ())) as connection:
            if not _begun(connection):
                return 0
            (records,) = connection.execute("SELECT count(*) FROM records").fetchone()
            return int(records)
    except (sqlite3.Error, LogError):
        return -1


def _oldest(path: Path) -> _Oldest | None:
    """None where there is nothing more. Raises LogError, and sqlite3.Error."""
    with closing(read_sqlite(path, ())) as connection:
        if not _begun(connection):
            return None
        rows, size = [], 0
        for place, held, record in connection.execute("SELECT place, held, record FROM records ORDER BY place"):
            rows.append((place, held, _decode(record)))
            size += len(record)
            if len(rows) == RUN or size >= RUN_BYTES:
                break
    if not rows:
        return None
    return _Oldest(
        [record for _, _, record in rows], rows[-1][0], sum(held not in (None, REFUSED) for _, held, _ in rows)
    )


def _forget(path: Path, place: int, clock: Clock) -> None:
    with closing(sqlite3.connect(path, timeout=BUSY_S, isolation_level=None)) as connection:
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("DELETE FROM records WHERE place <= ?", (place,))
        shrink(connection, nullcontext(), clock)


def _begun(connection: sqlite3.Connection) -> bool:
    """Whether its gateway came so far as to make the table."""
    return connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'records'").fetchone() is not None
