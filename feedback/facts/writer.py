"""Writing facts: a batch of rows is committed together with the log offsets that it covers, in one transaction.

What is already applied is trimmed off record by record, so replaying any stretch of the log adds nothing twice. delta-rs does
not refuse a replayed transaction version by itself (delta-rs #2580): the version is read and the rows are written on the same
loaded table.
"""

from __future__ import annotations

import contextlib
import fcntl
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
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

from feedback.clock import Clock
from feedback.durable import make_sure_of_room
from feedback.facts.tables import SCHEMA, TABLE_OF_TOPIC, TABLES, Batch, Row, TableName, app_of, day_of, held
from feedback.records import Unjudged, Verdict

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

_encode = msgspec.json.encode


class FactsWriter:
    """Appends batches to the facts under `root` from logs whose topics `identity` tells apart. One writer per process; many may race."""

    def __init__(
        self, root: Path, identity: Callable[[str], str], clock: Clock, kept_for: timedelta = KEPT_FOR
    ) -> None:
        self._root, self._identity, self._clock = root, identity, clock
        self._kept_for = kept_for
        self._tables = self._opened()
        self._commits = dict.fromkeys(TABLES, 0)
        self._alone = threading.Lock()
        """Held from reading what is applied to writing on it: whoever brought the loaded table up to date in between would
        hide what another writer did meanwhile, and the same rows would land twice."""

    def _opened(self) -> dict[TableName, DeltaTable]:
        make_sure_of_room(self._root)
        return {name: _open(self._root / name, self._kept_for) for name in TABLES}

    def commit(self, batches: Sequence[Batch]) -> int:
        """Make batches durable, at most one transaction per table; returns how many rows were new.

        Raises OSError (ENOSPC) while the disk is not quite full: on one that is, delta-rs panics.
        """
        make_sure_of_room(self._root)
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
                self._clock.pause(0.01 * attempt)
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
            with held(self._root, fcntl.LOCK_EX) as alone:
                if alone:  # else the files that a seal reads stay, and the checkpoint that would forget them waits
                    table.create_checkpoint()
                    hours = self._kept_for.total_seconds() / 3600
                    table.vacuum(retention_hours=int(hours), dry_run=False, enforce_retention_duration=False)
                    table.cleanup_metadata()
        except CommitFailedError:  # another writer was first; the next round catches up
            pass
        self._tables[name] = DeltaTable(table.table_uri)

    def _app(self, topic: str, partition: int) -> str:
        return app_of(self._identity(topic), topic, partition)


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
        "day": [day_of(event.occurred_at_us) for event in events],
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
