"""The embedded log: topics, partitions, offsets and consumer groups in one SQLite file. Durable; no server to start.

Synchronous and safe for several processes: WAL mode, `synchronous=FULL`, one short write transaction for each call. An
offset is never given twice, also after old records were trimmed away.
"""

from __future__ import annotations

import secrets
import threading
import zlib
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import msgspec

from feedback.clock import Clock
from feedback.intake.edge import Record
from streams.log import TP, LogError, Stored
from streams.sqlite.connection import open_sqlite, read_sqlite, transaction
from streams.sqlite.shrinking import shrink

FORMAT = "1"
TRIMMED = 2_000
"""Records that are removed at once."""

_SCHEMA = (
    "CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
    """CREATE TABLE IF NOT EXISTS partitions (
  topic TEXT NOT NULL, partition INTEGER NOT NULL, id INTEGER NOT NULL UNIQUE, next_offset INTEGER NOT NULL,
  PRIMARY KEY (topic, partition)
) WITHOUT ROWID""",
    """CREATE TABLE IF NOT EXISTS records (
  partition_id INTEGER NOT NULL, offset INTEGER NOT NULL, at_us INTEGER NOT NULL,
  key BLOB NOT NULL, value BLOB NOT NULL, headers BLOB NOT NULL,
  PRIMARY KEY (partition_id, offset)
) WITHOUT ROWID""",
    """CREATE TABLE IF NOT EXISTS offsets (
  consumer_group TEXT NOT NULL, topic TEXT NOT NULL, partition INTEGER NOT NULL, next_offset INTEGER NOT NULL,
  PRIMARY KEY (consumer_group, topic, partition)
) WITHOUT ROWID""",
)

_encode_headers = msgspec.msgpack.encode
_decode_headers = msgspec.msgpack.Decoder(tuple[tuple[str, bytes], ...]).decode


class SqliteLog:
    """One log file. Its connection may be used from any thread, by one at a time (a lock sees to it)."""

    prefix = ""

    def __init__(self, path: Path, clock: Clock, partitions: int = 4, read_only: bool = False) -> None:
        """`read_only`: for whoever only looks; where there is no file, an empty log is looked at. Raises LogError."""
        self.path, self._clock, self._partitions = path, clock, partitions
        self._lock = threading.Lock()
        self._connection = read_sqlite(path, _SCHEMA) if read_only else open_sqlite(path, _SCHEMA, clock)
        if not (read_only and path.is_file()):
            self._name()
        if self._meta("format") != FORMAT:
            raise LogError(f"{path} has log format {self._meta('format')}, this version knows {FORMAT}: upgrade")
        self._log_id = self._meta("log_id")

    def _name(self) -> None:
        with self._transaction():
            for name, value in (("format", FORMAT), ("log_id", secrets.token_hex(16))):
                self._connection.execute("INSERT OR IGNORE INTO meta VALUES (?, ?)", (name, value))

    def identity(self, topic: str) -> str:
        """The file's own id, the same for all its topics."""
        return self._log_id

    def create_topic(self, topic: str, partitions: int | None = None) -> bool:
        """Make sure that a topic exists; an existing one keeps its partitions. Whether it was made."""
        with self._transaction():
            made = not self._found(topic)
            self._create(topic, partitions)
        return made

    def topics(self) -> dict[str, int]:
        """Topics and how many partitions each has."""
        with self._lock:
            return dict(self._connection.execute("SELECT topic, count(*) FROM partitions GROUP BY topic").fetchall())

    def append(self, records: Iterable[Record]) -> list[int]:
        """Append records in one durable transaction (the topic's partition by key); returns their offsets."""
        now_us = self._clock.now_us()
        with self._transaction():
            known: dict[str, dict[int, list[int]]] = {}
            rows, offsets = [], []
            for record in records:
                if record.topic not in known:
                    known[record.topic] = self._create(record.topic)
                partitions = known[record.topic]
                place = partitions[zlib.crc32(record.key) % len(partitions)]
                rows.append((place[0], place[1], now_us, record.key, record.value, _encode_headers(record.headers)))
                offsets.append(place[1])
                place[1] += 1
            self._connection.executemany("INSERT INTO records VALUES (?, ?, ?, ?, ?, ?)", rows)
            ends = [(end, row_id) for partitions in known.values() for row_id, end in partitions.values()]
            self._connection.executemany("UPDATE partitions SET next_offset = ? WHERE id = ?", ends)
        return offsets

    def read(self, topic: str, partition: int, offset: int, limit: int, max_bytes: int = 8_000_000) -> list[Stored]:
        """Up to `limit` records, or somewhat more than `max_bytes`, from `offset` on."""
        found, size = [], 0
        with self._lock:
            cursor = self._connection.execute(
                "SELECT offset, at_us, key, value, headers FROM records WHERE partition_id ="
                " (SELECT id FROM partitions WHERE topic = ? AND partition = ?) AND offset >= ? ORDER BY offset LIMIT ?",
                (topic, partition, offset, limit),
            )
            for at, at_us, key, value, headers in cursor:
                found.append(Stored(topic, partition, at, at_us, key, value, _decode_headers(headers)))
                size += len(value)
                if size >= max_bytes:
                    break
            cursor.close()
        return found

    def ends(self) -> dict[TP, int]:
        """The offset that comes next, for every partition."""
        with self._lock:
            rows = self._connection.execute("SELECT topic, partition, next_offset FROM partitions").fetchall()
        return {(topic, partition): offset for topic, partition, offset in rows}

    def commit(self, group: str, offsets: dict[TP, int]) -> None:
        """Record that a consumer group has done everything before these offsets; never moves one back."""
        with self._transaction():
            self._connection.executemany(
                "INSERT INTO offsets VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE"
                " SET next_offset = max(next_offset, excluded.next_offset)",
                [(group, topic, partition, offset) for (topic, partition), offset in offsets.items()],
            )

    def rewind(self, group: str, offsets: dict[TP, int]) -> None:
        """Let a consumer group begin again at these offsets: what it did after them was not kept."""
        with self._transaction():
            self._connection.executemany(
                "UPDATE offsets SET next_offset = ? WHERE consumer_group = ? AND topic = ? AND partition = ?",
                [(offset, group, topic, partition) for (topic, partition), offset in offsets.items()],
            )

    def committed(self, group: str) -> dict[TP, int]:
        """Where a consumer group stands; partitions that it never committed are absent."""
        with self._lock:
            rows = self._connection.execute(
                "SELECT topic, partition, next_offset FROM offsets WHERE consumer_group = ?", (group,)
            ).fetchall()
        return {(topic, partition): offset for topic, partition, offset in rows}

    def trim(self, before_us: int, groups: Mapping[str, str]) -> int:
        """Remove records received before `before_us` that the group responsible for their topic has done.

        `groups` names that group for each topic; other topics are left alone. Returns how many records went;
        their room is given back to the disk.
        """
        removed = 0
        for topic, group in groups.items():
            done = self.committed(group)
            with self._lock:
                found = self._found(topic)
            for partition, row_id, _ in found:
                while gone := self._trim(row_id, done.get((topic, partition), 0), before_us):
                    removed += gone
        shrink(self._connection, self._lock, self._clock)
        return removed

    def _trim(self, row_id: int, done: int, before_us: int) -> int:
        """The oldest of them: others write between two such steps."""
        with self._lock:
            oldest = "SELECT offset, at_us FROM records WHERE partition_id = ? ORDER BY offset LIMIT 1"
            first, at_us = self._connection.execute(oldest, (row_id,)).fetchone() or (done, 0)
            surely = self._last_before(row_id, before_us) if at_us > self._clock.now_us() else -1
            return self._connection.execute(
                "DELETE FROM records WHERE partition_id = ? AND offset < ? AND (at_us < ? OR offset < ?)",
                (row_id, min(done, first + TRIMMED), before_us, surely),
            ).rowcount

    def _last_before(self, row_id: int, before_us: int) -> int:
        """The offset of the last record received before a moment, and -1. Where a clock was ahead, those before it seem newer."""
        last = "SELECT offset FROM records WHERE partition_id = ? AND at_us < ? ORDER BY offset DESC LIMIT 1"
        row = self._connection.execute(last, (row_id, before_us)).fetchone()
        return -1 if row is None else int(row[0])

    def forget(self, topic: str, places: Mapping[int, Collection[int]]) -> int:
        """Remove the records at these offsets, by partition; their bytes are overwritten. Returns how many went."""
        removed = 0
        with self._lock:
            self._connection.execute("PRAGMA secure_delete = ON")
        with self._transaction():
            ids = {partition: row_id for partition, row_id, _ in self._found(topic)}
            for partition, offsets in places.items():
                rows = [(ids[partition], offset) for offset in offsets]
                delete = "DELETE FROM records WHERE partition_id = ? AND offset = ?"
                removed += self._connection.executemany(delete, rows).rowcount if rows else 0
        with self._lock:
            self._connection.execute("PRAGMA secure_delete = OFF")
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()  # as far as no reader needs it
        return removed

    def close(self) -> None:
        """Close the file; every call before has already been durable."""
        with self._lock:
            self._connection.close()

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._lock, transaction(self._connection):
            yield

    def _meta(self, name: str) -> str:
        return str(self._connection.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()[0])

    def _found(self, topic: str) -> list[tuple[int, int, int]]:
        select = "SELECT partition, id, next_offset FROM partitions WHERE topic = ?"
        return self._connection.execute(select, (topic,)).fetchall()

    def _create(self, topic: str, partitions: int | None = None) -> dict[int, list[int]]:
        """The topic's partitions as {partition: [id, next_offset]}, made if need be; within a transaction."""
        rows = self._found(topic)
        if not rows:
            first = self._connection.execute("SELECT coalesce(max(id), 0) + 1 FROM partitions").fetchone()[0]
            rows = [(number, first + number, 0) for number in range(partitions or self._partitions)]
            self._connection.executemany(
                "INSERT INTO partitions VALUES (?, ?, ?, ?)",
                [(topic, number, row_id, end) for number, row_id, end in rows],
            )
        return {number: [row_id, end] for number, row_id, end in rows}
