"""The gateway's spool: events are durable in a file beside it first, and go to the log from there.

So a turn is kept before the last piece of its answer is sent, however far away the broker is. A turn under way is *held*:
should the process die, the next one logs it as aborted. Records go out in the order in which they came in; one that was
sent just before a crash goes out again under the same event id.
"""

from __future__ import annotations

import asyncio
import math
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import structlog
from msgspec import Struct

from deploy.errors import Failed
from deploy.gateway import metrics
from deploy.gateway.room import Room
from feedback.clock import Clock
from feedback.intake.edge import Record
from streams.log import LogError, Producer, RecordRefused
from streams.sqlite.connection import open_sqlite, transaction
from streams.sqlite.group_commit import GroupCommit
from streams.sqlite.shrinking import shrink

RUN = 500
"""Most records that are sent at once."""
RUN_BYTES = 8_000_000
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 15.0
HOLD_S = 8.0
"""A turn that can't be held within this time is given up; shorter than what `event_log` waits."""
LINGER_S = 0.02
"""After a run the next records are waited for: two hundred of them cost little more than one."""

SEND_S = 60.0
"""A producer that took longer is replaced."""
CLOSE_S = 5.0
REFUSED = "refused"
"""What a record is held under that the broker would not take (its topic's limit was lowered): the next start tries again."""

SHRINK_S = 60.0
"""How often, at most, its file gives room back to the disk."""

RECENT_BYTES = 16_000_000
"""So much of what was written last is also kept in memory, as long as nothing before it waits: sending reads no file then."""

_Row = tuple[int, Record, int]
"""Place, record and its size."""
_New = tuple[str | None, Record, bytes]
"""The name that it is held under, record, and the record encoded."""

_SCHEMA = (
    """CREATE TABLE IF NOT EXISTS records (
  place INTEGER PRIMARY KEY, at_us INTEGER NOT NULL, held TEXT, record BLOB NOT NULL
)""",
    "CREATE INDEX IF NOT EXISTS held ON records (held) WHERE held IS NOT NULL",
)

# one statement for all rows: the interpreter's lock is let go for each, and the loop is quick to take it
_INSERT = """INSERT INTO records (place, at_us, held, record)
SELECT ?1 + key, ?2, json_extract(value, '$[0]'), substr(?3, json_extract(value, '$[1]'), json_extract(value, '$[2]'))
FROM json_each(?4)"""
_RELEASE = "DELETE FROM records WHERE held IN (SELECT value FROM json_each(?))"
_SENT = "DELETE FROM records WHERE held IS NULL AND place <= ?"

log = structlog.get_logger()
_encode = msgspec.msgpack.encode
_decode = msgspec.msgpack.Decoder(Record).decode
_T = TypeVar("_T", bound=tuple[int, Any, int])


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()


def _bounded(rows: Iterable[_T]) -> Iterator[_T]:
    """The first rows that are sent at once; `rows` stands behind them."""
    total = 0
    for number, row in enumerate(rows, 1):
        yield row
        total += row[2]
        if number == RUN or total >= RUN_BYTES:
            return


class SpoolFull(Exception):
    """No more records are taken until some were sent."""


class _Job(Struct, frozen=True):
    """What becomes durable at once: `held` None: these records may be sent; else they wait under that name.

    A job that `releases` a name does away with what is held under it; one that `sent` rows, with those.
    """

    records: Sequence[Record] = ()
    held: str | None = None
    releases: str | None = None
    sent: Sequence[_Row] = ()


class Spool:
    """One file, one process. `run` sends what is in it; everything else works without."""

    def __init__(self, path: Path, max_bytes: int, clock: Clock, free: Callable[[], float] | None = None) -> None:
        """`free`: how many bytes its disk has left, where that is not to be asked of the disk."""
        self._max_bytes, self._clock = max_bytes, clock
        self._room = Room(path.parent, clock, free)
        self._shrunk_s = -math.inf
        self._lock = threading.Lock()
        try:
            self._connection = open_sqlite(path, _SCHEMA, clock)
        except LogError as error:
            raise Failed(str(error)) from None
        (self.aborted,) = self._connection.execute(
            "SELECT count(*) FROM records WHERE held <> ?", (REFUSED,)
        ).fetchone()
        """Turns that were under way when the process before this one died."""
        self._connection.execute("UPDATE records SET held = NULL WHERE held IS NOT NULL")
        self.records: int
        self.size: int
        self._place: int
        self.records, self.size, self._place = self._connection.execute(
            "SELECT count(*), coalesce(sum(length(record)), 0), coalesce(max(place), 0) + 1 FROM records"
        ).fetchone()
        self._held = dict[str, int]()
        """The sizes of what is held, by name."""
        self._recent, self._recent_bytes = deque[_Row](), 0
        self._behind = self.records > 0
        """Whether what may be sent next is only in the file; else all of it is in `_recent`."""
        self._fresh = False
        """Whether records were written that may be sent, of which `run` does not know yet."""
        self._filled, self._drained = asyncio.Event(), asyncio.Event()
        self._commits = GroupCommit(self._write, self._written)
        self._releasing = set[asyncio.Task[None]]()
        metrics.TURNS_ABORTED.inc(self.aborted)
        metrics.SPOOL_LIMIT_BYTES.set(max_bytes)
        metrics.SPOOL_RECORDS.set_function(lambda: self.records)
        metrics.SPOOL_BYTES.set_function(lambda: self.size)
        metrics.SPOOL_OLDEST_SECONDS.set_function(self._oldest_s)

    @property
    def full(self) -> bool:
        """Whether what begins now may find no room. What is held is taken all the same once it is complete."""
        return self.why_full is not None

    @property
    def why_full(self) -> str | None:
        """One sentence; None while there is room."""
        if self.size >= self._max_bytes:
            return "the spool is full: events wait for the broker (gateway.spool_bytes)"
        return self._room.missing

    async def hold(self, name: str, record: Record) -> None:
        """Keep a record that is only sent if this process dies before `name` is released. Raises SpoolFull.

        Also TimeoutError after HOLD_S. Who gives up, so or cancelled, holds nothing: what is written later is released at
        once. Such a turn may still be sent when it is complete, as one that was never held.
        """
        self._check()
        try:
            async with self._clock.timeout(HOLD_S):
                await self._keep(_Job([record], held=name))
        except TimeoutError:
            self._give_up(name)
            raise TimeoutError(f"the spool's disk did not take a turn within {HOLD_S:g} s") from None
        except asyncio.CancelledError:
            self._give_up(name)
            raise

    async def send(self, records: Sequence[Record], releases: str | None = None) -> None:
        """Returns when the records are durable here, in place of what was held under `releases`. Raises SpoolFull."""
        if releases is None or releases not in self._held:
            self._check()
        await self._keep(_Job(records, releases=releases))

    async def run(self, connect: Callable[[], Producer]) -> None:
        """Send what comes in, until cancelled; `connect` may fail, then and later: it is tried again."""
        producer: Producer | None = None
        pause_s = FIRST_PAUSE_S
        try:
            while True:
                try:
                    if producer is None:
                        producer = await asyncio.to_thread(connect)
                    linger_s = 0.0
                    while await self._forward(producer, linger_s):
                        pause_s, linger_s = FIRST_PAUSE_S, LINGER_S
                    await self._shrink()
                except Exception as error:
                    log.warning("spool_waits", records=self.records, again_in_s=pause_s, error=str(error)[:300])
                    if producer is not None:
                        await self._close(producer)
                        producer = None
                    await self._clock.sleep(pause_s)
                    pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
                    continue
                await self._filled.wait()
        finally:
            if producer is not None:
                await self._close(producer)

    async def drained(self, within_s: float) -> bool:
        """Whether everything that may be sent was, within that time; `run` has to be running."""
        return await self._clock.wait(self._drained, within_s)

    async def close(self) -> None:
        """Write what waits to be written, then let go of the file."""
        await self._clock.sleep(0)  # what was given up just now comes into the queue first
        await self._commits.close()
        for task in self._releasing:
            task.cancel()
        await asyncio.gather(*self._releasing, return_exceptions=True)
        await self._room.close()
        metrics.SPOOL_OLDEST_SECONDS.set_function(lambda: 0.0)  # who looks at the metrics outlives the file
        with self._lock:
            self._connection.close()

    async def _keep(self, job: _Job) -> None:
        try:
            await self._commits.do(job)
        except LogError:  # closed
            raise
        except Exception:
            self._room.failed()
            raise

    def _give_up(self, name: str) -> None:
        task = asyncio.ensure_future(self._release(name))
        self._releasing.add(task)
        task.add_done_callback(self._releasing.discard)

    async def _release(self, name: str) -> None:
        """Do away with what nobody waits for any more: this comes behind it in the queue."""
        while True:
            try:
                await self._commits.do(_Job(releases=name))
            except LogError:  # closed
                return
            except Exception as error:
                log.warning("turn_not_released", error=str(error)[:300])
                await self._clock.sleep(FIRST_PAUSE_S)
            else:
                return

    async def _shrink(self) -> None:
        """Now and then, when all was sent: a broker that was away leaves a large file."""
        if self._clock.monotonic_s() - self._shrunk_s >= SHRINK_S:
            self._shrunk_s = self._clock.monotonic_s()
            await asyncio.to_thread(shrink, self._connection, self._lock, self._clock)

    async def _forward(self, producer: Producer, linger_s: float) -> bool:
        """Send the oldest records; False when there are none, also after waiting so long for a few more."""
        self._filled.clear()
        run = await asyncio.to_thread(self._next, linger_s)
        if not run:
            if not self._filled.is_set():
                self._drained.set()
            return False
        try:
            sent = await self._sent(producer, run)
            await self._commits.do(_Job(sent=sent))  # with others' records: it would hold them up alone
        except BaseException:
            self._look_again()
            raise
        return True

    async def _sent(self, producer: Producer, run: list[_Row]) -> list[_Row]:
        """Send these, but for what the broker will not take, which is kept."""
        try:
            await self._send(producer, run)
        except RecordRefused:
            return [row for row in run if await self._taken(producer, row)]
        return run

    async def _taken(self, producer: Producer, row: _Row) -> bool:
        try:
            await self._send(producer, [row])
        except RecordRefused as error:
            log.error("record_refused", error=str(error), kept="it is sent again when the gateway starts")
            metrics.SPOOL_REFUSED.inc()
            await asyncio.to_thread(self._refuse, row[0])
            return False
        return True

    def _next(self, linger_s: float) -> list[_Row]:
        if linger_s and self.records < RUN:
            self._clock.pause(linger_s)
        with self._lock:
            if self._behind:
                return self._from_file()
            run = list(_bounded(self._recent))
            for _, _, size in run:
                self._recent.popleft()
                self._recent_bytes -= size
        return run

    def _from_file(self) -> list[_Row]:
        rows = self._connection.execute(
            "SELECT place, record, length(record) FROM records WHERE held IS NULL ORDER BY place LIMIT ?", (RUN + 1,)
        )
        found = [(place, _decode(record), size) for place, record, size in _bounded(rows)]
        self._behind = rows.fetchone() is not None
        rows.close()
        return found

    def _look_again(self) -> None:
        """What was taken to be sent may not have been: it is still in the file."""
        with self._lock:
            self._recent.clear()
            self._recent_bytes, self._behind = 0, True

    def _refuse(self, place: int) -> None:
        with self._lock:
            self._connection.execute("UPDATE records SET held = ? WHERE place = ?", (REFUSED, place))

    def _write(self, jobs: list[_Job]) -> None:
        rows, releases = _in_order(jobs)
        sent = [row for job in jobs for row in job.sent]
        with self._lock:
            alone = not releases and not sent and len(rows) <= RUN  # a statement is a transaction by itself
            with nullcontext() if alone else transaction(self._connection):
                if releases:
                    self._connection.execute(_RELEASE, (_json(releases),))
                if sent:
                    self._connection.execute(_SENT, (sent[-1][0],))
                self._insert(rows)
            gone = [size for name in releases if (size := self._held.pop(name, None)) is not None]
            gone += [size for _, _, size in sent]
            self.records += len(rows) - len(gone)
            self.size += sum(len(encoded) for _, _, encoded in rows) - sum(gone)
            for place, (held, record, encoded) in enumerate(rows, self._place):
                if held is not None:
                    self._held[held] = len(encoded)
                elif not self._behind:
                    self._recent.append((place, record, len(encoded)))
                    self._recent_bytes += len(encoded)
            self._place += len(rows)
        if self._recent_bytes > RECENT_BYTES:
            self._look_again()
        self._fresh = self._fresh or any(held is None for held, _, _ in rows)

    def _insert(self, rows: Sequence[_New]) -> None:
        for start in range(0, len(rows), RUN):
            at, described = 1, []
            for held, _, encoded in rows[start : start + RUN]:
                described.append((held, at, len(encoded)))
                at += len(encoded)
            blob = b"".join(encoded for _, _, encoded in rows[start : start + RUN])
            self._connection.execute(_INSERT, (self._place + start, self._clock.now_us(), blob, _json(described)))

    def _written(self) -> None:
        if self._fresh:
            self._fresh = False
            self._drained.clear()
            self._filled.set()

    def _check(self) -> None:
        if self.size >= self._max_bytes:
            raise SpoolFull(f"the spool holds {self.size:,} bytes and may hold {self._max_bytes:,}")

    async def _send(self, producer: Producer, run: list[_Row]) -> None:
        async with self._clock.timeout(SEND_S):
            await producer.send([record for _, record, _ in run])

    async def _close(self, producer: Producer) -> None:
        with suppress(Exception):  # it is given up; what it had not sent is still in the spool
            async with self._clock.timeout(CLOSE_S):
                await producer.close()

    def _oldest_s(self) -> float:
        with self._lock:
            oldest = self._connection.execute(
                "SELECT at_us FROM records WHERE held IS NULL ORDER BY place LIMIT 1"
            ).fetchone()
        return max(0.0, (self._clock.now_us() - oldest[0]) / 1e6) if oldest else 0.0


def _in_order(jobs: Iterable[_Job]) -> tuple[list[_New], list[str]]:
    """What is to be written, and the names that are released; what is held and released at once need not be written."""
    rows, releases, held = list[_New](), list[str](), set[str]()
    for job in jobs:
        if job.releases is not None:
            releases.append(job.releases)
            if job.releases in held:
                rows = [row for row in rows if row[0] != job.releases]
        if job.held is not None:
            held.add(job.held)
        rows += [(job.held, record, _encode(record)) for record in job.records]
    return rows, releases
