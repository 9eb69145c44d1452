"""What happened, kept: append-only Delta tables of turns, ratings and verdicts. Everything else is derived from them.

A batch of rows is committed together with the log offsets that it covers, in one transaction; what is already applied is
trimmed off record by record, so replaying any stretch of the log adds nothing twice. delta-rs does not refuse a replayed
transaction version by itself (delta-rs #2580): the version is read and the rows are written on the same loaded table.
"""

from __future__ import annotations

import contextlib
import fcntl
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence, Set
from datetime import date, timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
from deltalake import (
    ColumnProperties,
    CommitProperties,
    DeltaTable,
    PostCommitHookProperties,
    Transaction,
    WriterProperties,
    write_deltalake,
)
from deltalake.exceptions import CommitFailedError, TableNotFoundError
from deltalake.schema import Field, PrimitiveType
from msgspec import Struct

from feedback.census import payload_of
from feedback.contract import typed_value
from feedback.records import Judgement, Rating, Turn, Unjudged, Verdict

TableName = Literal["turns", "ratings", "verdicts"]
TABLES: tuple[TableName, ...] = ("turns", "ratings", "verdicts")
EVENT_TABLES: tuple[TableName, ...] = ("turns", "ratings")
TABLE_OF_TOPIC: dict[str, TableName] = {
    "turns.served": "turns",
    "ratings.given": "ratings",
    "verdicts.given": "verdicts",
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

COMPACT_EVERY = 100
"""Commits between two rounds of compaction, checkpoint and vacuum: keeps both files and commit times bounded."""

TARGET_FILE_BYTES = 32_000_000
KEPT_FOR = timedelta(hours=1)
"""How long files that compaction replaced stay for readers that still use them."""

UNIQUE = ("event_id", "turn_id", "content_hash", "record_digest", "record")
WRITING = WriterProperties(
    compression="ZSTD",
    compression_level=1,
    column_properties={name: ColumnProperties(dictionary_enabled=False, statistics_enabled="NONE") for name in UNIQUE},
)
"""Two fifths of the size that the defaults give, for the same time; a dictionary of what never comes again is for nothing."""

ATTEMPTS = 20
EPOCH, LAST_DAY = date(1970, 1, 1), (date.max - date(1970, 1, 1)).days

_encode = msgspec.json.encode
_decode: Callable[[str], Turn | Rating | Verdict | Unjudged] = msgspec.json.Decoder(
    Turn | Rating | Verdict | Unjudged
).decode


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


THREADS = False
"""pyarrow's own threads abort a process that ends right after a read (7 of 30 short commands on a busy machine)."""


SLOWLY: dict[str, Any] = {"batch_size": 8_192, "batch_readahead": 1, "fragment_readahead": 1}
"""How whole tables are read: by default gigabytes of records would lie ready before the first is looked at."""


class FactsWriter:
    """Appends batches to the facts under `root` from logs whose topics `identity` tells apart. One writer per process; many may race."""

    def __init__(self, root: Path, identity: Callable[[str], str], kept_for: timedelta = KEPT_FOR) -> None:
        self._root, self._identity = root, identity
        self._kept_for = kept_for
        self._tables = self._opened()
        self._commits = dict.fromkeys(TABLES, 0)
        self._alone = threading.Lock()
        """Held from reading what is applied to writing on it: whoever brought the loaded table up to date in between would
        hide what another writer did meanwhile, and the same rows would land twice."""

    def _opened(self) -> dict[TableName, DeltaTable]:
        return {name: _open(self._root / name, self._kept_for) for name in TABLES}

    def commit(self, batches: Sequence[Batch]) -> int:
        """Make batches durable, at most one transaction per table; returns how many rows were new."""
        new = 0
        for name in TABLES:
            mine = [batch for batch in batches if TABLE_OF_TOPIC[batch.topic] == name]
            if mine:
                with self._alone:
                    new += self._commit(name, mine)
        return new

    def applied(self, topic: str, partition: int) -> int:
        """The offset up to which a partition of this log has been applied (0: nothing); waits for a commit under way."""
        table = TABLE_OF_TOPIC[topic]
        with self._alone:
            self._tables[table].update_incremental()
            return self._tables[table].transaction_version(self._app(topic, partition)) or 0

    def fill(self, batches: Sequence[Batch]) -> None:
        """Add rows that are missing below what is applied, and nothing else: for who has looked, alone."""
        for name in TABLES:
            rows = [(batch, row) for batch in batches if TABLE_OF_TOPIC[batch.topic] == name for row in batch.rows]
            if rows:
                self._append(self._tables[name], rows, [])

    def _commit(self, name: TableName, batches: list[Batch]) -> int:
        for attempt in range(ATTEMPTS):
            table = self._tables[name]
            table.update_incremental()
            places = {(batch.topic, batch.partition) for batch in batches}
            applied = {place: table.transaction_version(self._app(*place)) or 0 for place in places}
            rows = list(_new_rows(batches, applied))
            reached: dict[tuple[str, int], int] = {}
            for batch in batches:
                key = (batch.topic, batch.partition)
                reached[key] = max(batch.next_offset, reached.get(key, 0))
            ahead = [Transaction(self._app(*key), offset) for key, offset in reached.items() if offset > applied[key]]
            if not ahead:
                return 0
            try:
                self._append(table, rows, ahead)
            except CommitFailedError:  # somebody else committed meanwhile: look again at what is applied
                time.sleep(0.01 * attempt)
                continue
            self._commits[name] += 1
            if self._commits[name] % COMPACT_EVERY == 0:
                self.maintain(name)
            return len(rows)
        raise TimeoutError(f"the facts table {name} was busy {ATTEMPTS} times in a row")

    def _append(self, table: DeltaTable, rows: Sequence[tuple[Batch, Row]], ahead: list[Transaction]) -> None:
        logs = {batch.topic: self._identity(batch.topic) for batch, _ in rows}
        write_deltalake(
            table,
            _arrow(rows, logs),
            mode="append",
            writer_properties=WRITING,
            commit_properties=CommitProperties(app_transactions=ahead),
            post_commithook_properties=PostCommitHookProperties(False, False),
        )

    def maintain(self, name: TableName) -> None:
        """Compact small files, write a checkpoint, and remove what nobody needs any more."""
        table = self._tables[name]
        try:
            table.optimize.compact(target_size=TARGET_FILE_BYTES, writer_properties=WRITING)
            with _held(self._root, fcntl.LOCK_EX) as alone:
                if alone:  # else the files that a seal reads stay, and the checkpoint that would forget them waits
                    table.create_checkpoint()
                    hours = self._kept_for.total_seconds() / 3600
                    table.vacuum(retention_hours=int(hours), dry_run=False, enforce_retention_duration=False)
                    table.cleanup_metadata()
        except CommitFailedError:  # another writer was first; the next round catches up
            pass
        self._tables[name] = DeltaTable(table.table_uri)

    def _app(self, topic: str, partition: int) -> str:
        return _app(self._identity(topic), topic, partition)


class Facts:
    """Reads the facts under `root`: iterables in no particular order, duplicates and conflicts included."""

    def __init__(self, root: Path) -> None:
        self._root = root

    @contextlib.contextmanager
    def pinned(self) -> Iterator[None]:
        """Nothing that is among the facts now is cleared away meanwhile, however long it takes."""
        with _held(self._root, fcntl.LOCK_SH, wait=True):
            yield

    def turns(
        self, since_us: int = 0, until_us: int = 2**62, only: Set[bytes] | None = None
    ) -> Iterator[tuple[Turn, str]]:
        """Turns with their content hashes: all, or those whose `census.payload_of` is in `only`."""
        for record, content_hash in self._records("turns", since_us, until_us, only):
            assert isinstance(record, Turn)
            yield record, content_hash

    def turns_before(self, until_us: int) -> int:
        """How many facts of turns are older."""
        table = self._table("turns")
        older = (pc.field("day") <= _day(until_us)) & (pc.field("occurred_at_us") < until_us)
        return 0 if table is None else int(table.to_pyarrow_dataset().count_rows(filter=older, use_threads=THREADS))

    def ratings(self, since_us: int = 0, until_us: int = 2**62) -> Iterator[tuple[Rating, str]]:
        """Ratings with their content hashes."""
        for record, content_hash in self._records("ratings", since_us, until_us):
            assert isinstance(record, Rating)
            yield msgspec.structs.replace(record, value=typed_value(record.kind, record.value)), content_hash

    def verdicts(self, since_us: int = 0, until_us: int = 2**62) -> Iterator[Judgement]:
        """Verdicts, and the questions that found none."""
        for record, _ in self._records("verdicts", since_us, until_us):
            assert isinstance(record, Verdict | Unjudged)
            yield record

    def labels_since(self, since_us: int, kinds: Collection[str]) -> tuple[int, int]:
        """Ratings of these kinds by users and experts, and verdicts, that were received after a moment."""
        ratings = [
            record
            for record in self._received_since("ratings", since_us)
            if isinstance(record, Rating) and record.kind in kinds and record.source != "system"
        ]
        verdicts = [record for record in self._received_since("verdicts", since_us) if isinstance(record, Verdict)]
        return len({(r.tenant, r.event_id) for r in ratings}), len({v.verdict_id for v in verdicts})

    def received_since(self, since_us: int) -> Iterator[tuple[int, int, Turn | Rating]]:
        """Turns and ratings that were received after a moment, as (partition, received_at_us, record)."""
        for name in EVENT_TABLES:
            for batch in self._batches(name, ["partition", "received_at_us", "record"], since_us):
                for partition, at_us, record in zip(*(column.to_pylist() for column in batch.columns), strict=True):
                    event = _decode(record)
                    assert isinstance(event, Turn | Rating)
                    yield partition, at_us, event

    def columns(self, name: TableName, columns: Sequence[str], where: pc.Expression | None = None) -> pa.Table:
        """Some columns of a whole table, or of the rows that `where` takes, without its records."""
        table = self._table(name)
        if table is None:
            return SCHEMA.empty_table().select(columns)
        return table.to_pyarrow_dataset().to_table(columns=list(columns), filter=where, use_threads=THREADS)

    def applied(self, log: str, topic: str, partition: int) -> int:
        """The offset up to which a partition of the log of this identity has been applied (0: nothing)."""
        table = self._table(TABLE_OF_TOPIC[topic])
        return 0 if table is None else table.transaction_version(_app(log, topic, partition)) or 0

    def _records(
        self, name: TableName, since_us: int, until_us: int, only: Set[bytes] | None = None
    ) -> Iterator[tuple[Any, str]]:
        table = self._table(name)
        if table is None:
            return
        span = (pc.field("occurred_at_us") >= since_us) & (pc.field("occurred_at_us") <= until_us)
        days = (pc.field("day") >= _day(since_us)) & (pc.field("day") <= _day(until_us))
        scanner = table.to_pyarrow_dataset().scanner(
            columns=["tenant", "turn_id", "content_hash", "record"], filter=days & span, use_threads=THREADS, **SLOWLY
        )
        for batch in scanner.to_batches():
            if only is not None:
                names = (batch.column(name).to_pylist() for name in ("tenant", "turn_id", "content_hash"))
                batch = batch.filter(pa.array([payload_of(*name) in only for name in zip(*names, strict=True)]))
            hashes = batch.column("content_hash").to_pylist()
            for record, content_hash in zip(batch.column("record").to_pylist(), hashes, strict=True):
                yield _decode(record), content_hash

    def _received_since(self, name: TableName, since_us: int) -> Iterator[Turn | Rating | Judgement]:
        for batch in self._batches(name, ["record"], since_us):
            yield from map(_decode, batch.column("record").to_pylist())

    def _batches(self, name: TableName, columns: list[str], received_since_us: int) -> Iterator[pa.RecordBatch]:
        table = self._table(name)
        if table is not None:
            newer = pc.field("received_at_us") > received_since_us
            yield from (
                table.to_pyarrow_dataset().scanner(columns=columns, filter=newer, use_threads=THREADS).to_batches()
            )

    def _table(self, name: TableName) -> DeltaTable | None:
        try:
            return DeltaTable(self._root / name)
        except TableNotFoundError:
            return None


@contextlib.contextmanager
def _held(root: Path, how: int, wait: bool = False) -> Iterator[bool]:
    """Hold the lock of the facts' files, shared by who reads and alone by who clears away; whether we have it."""
    root.mkdir(parents=True, exist_ok=True)
    with (root / ".reading").open("a") as file:
        try:
            fcntl.flock(file, how if wait else how | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


def _app(log: str, topic: str, partition: int) -> str:
    """Under which name a table's transactions keep how much of a partition is applied."""
    return f"{log}/{topic}/{partition}"


def _open(path: Path, kept_for: timedelta) -> DeltaTable:
    path.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(TableNotFoundError):
        return _with_log(DeltaTable(path))
    with contextlib.suppress(CommitFailedError):  # another writer made it in the meantime
        DeltaTable.create(
            path,
            SCHEMA,
            mode="ignore",
            partition_by=["day"],
            configuration={
                "delta.logRetentionDuration": f"interval {int(kept_for.total_seconds())} seconds",
                "delta.deletedFileRetentionDuration": f"interval {int(kept_for.total_seconds())} seconds",
                "delta.checkpointInterval": "1000000",  # checkpoints are part of our own maintenance
            },
        )
    return DeltaTable(path)


def _with_log(table: DeltaTable) -> DeltaTable:
    """Tables of the first days do not say which log a row came from."""
    if "log" not in {field.name for field in table.schema().fields}:
        with contextlib.suppress(CommitFailedError):  # another process was first
            table.alter.add_columns([Field("log", PrimitiveType("string"))])
        return DeltaTable(table.table_uri)
    return table


def _new_rows(batches: Iterable[Batch], applied: Mapping[tuple[str, int], int]) -> Iterator[tuple[Batch, Row]]:
    """Rows beyond what is applied, each once: after a rebalance a run may come again while its first copy still waits."""
    seen: set[tuple[str, int, int]] = set()
    for batch in batches:
        for row in batch.rows:
            place = (batch.topic, batch.partition, row.offset)
            if row.offset >= applied[batch.topic, batch.partition] and place not in seen:
                seen.add(place)
                yield batch, row


def _arrow(placed: Sequence[tuple[Batch, Row]], logs: Mapping[str, str]) -> pa.Table:
    rows = [row for _, row in placed]
    events = [row.event for row in rows]
    columns: dict[str, list[Any]] = {  # column by column: half the time of row by row
        "day": [_day(event.occurred_at_us) for event in events],
        "tenant": [event.tenant for event in events],
        "event_id": [e.verdict_id if isinstance(e, Verdict | Unjudged) else e.event_id for e in events],
        "conversation_id": [event.conversation_id for event in events],
        "turn_id": [event.turn_id for event in events],
        "occurred_at_us": [event.occurred_at_us for event in events],
        "received_at_us": [row.received_at_us for row in rows],
        "content_hash": [row.content_hash for row in rows],
        "record_digest": [row.record_digest for row in rows],
        "partition": [batch.partition for batch, _ in placed],
        "offset": [row.offset for row in rows],
        "record": [_encode(event).decode() for event in events],
        "log": [logs[batch.topic] for batch, _ in placed],
    }
    return pa.table(columns, schema=SCHEMA)


def _day(at_us: int) -> str:
    return _date(at_us // 86_400_000_000)


@lru_cache(maxsize=1_024)
def _date(day: int) -> str:
    """The date so many days after the epoch; what lies beyond the last one that Python knows counts as that."""
    return str(EPOCH + timedelta(days=min(day, LAST_DAY)))


__all__ = ["TABLES", "TABLE_OF_TOPIC", "Batch", "Facts", "FactsWriter", "Row", "TableName"]
