"""Reading facts: iterables in no particular order, duplicates and conflicts included.

What is of another kind than its table is left out, with a warning: before topics took only their own kind, a rating on the
topic of turns became a row of turns.
"""

from __future__ import annotations

import contextlib
import fcntl
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence, Set
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import structlog
from deltalake import DeltaTable
from deltalake.exceptions import TableNotFoundError

from feedback.digests import payload_of
from feedback.facts.tables import SCHEMA, TABLE_OF_TOPIC, TableName, app_of, day_of, held
from feedback.intake.contract import typed_value
from feedback.records import Judgement, Rating, Turn, Unjudged, Verdict

THREADS = False
"""pyarrow's own threads abort a process that ends right after a read (7 of 30 short commands on a busy machine)."""


SLOWLY: dict[str, Any] = {"batch_size": 8_192, "batch_readahead": 1, "fragment_readahead": 1}
"""How whole tables are read: by default gigabytes of records would lie ready before the first is looked at."""

log = structlog.get_logger()

_decode: Callable[[str], Turn | Rating | Verdict | Unjudged] = msgspec.json.Decoder(
    Turn | Rating | Verdict | Unjudged
).decode


class Facts:
    """Reads the facts under `root`: iterables in no particular order, duplicates and conflicts included."""

    def __init__(self, root: Path) -> None:
        self._root = root

    @contextlib.contextmanager
    def pinned(self) -> Iterator[None]:
        """Nothing that is among the facts now is cleared away meanwhile, however long it takes."""
        with held(self._root, fcntl.LOCK_SH, wait=True):
            yield

    def turns(
        self, since_us: int = 0, until_us: int = 2**62, only: Set[bytes] | None = None
    ) -> Iterator[tuple[Turn, str]]:
        """Turns with their content hashes: all, or those whose `census.payload_of` is in `only`."""
        yield from _only(Turn, "turns", self._records("turns", since_us, until_us, only))

    def turns_before(self, until_us: int) -> int:
        """How many facts of turns are older."""
        table = self._table("turns")
        older = (pc.field("day") <= day_of(until_us)) & (pc.field("occurred_at_us") < until_us)
        return 0 if table is None else int(table.to_pyarrow_dataset().count_rows(filter=older, use_threads=THREADS))

    def ratings(self, since_us: int = 0, until_us: int = 2**62) -> Iterator[tuple[Rating, str]]:
        """Ratings with their content hashes."""
        for record, content_hash in _only(Rating, "ratings", self._records("ratings", since_us, until_us)):
            yield msgspec.structs.replace(record, value=typed_value(record.kind, record.value)), content_hash

    def verdicts(self, since_us: int = 0, until_us: int = 2**62) -> Iterator[Judgement]:
        """Verdicts, and the questions that found none."""
        for record, _ in _only(Verdict | Unjudged, "verdicts", self._records("verdicts", since_us, until_us)):
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
        kinds: dict[TableName, type[Turn] | type[Rating]] = {"turns": Turn, "ratings": Rating}
        for name, kind in kinds.items():
            for batch in self.batches(name, ["partition", "received_at_us", "record"], since_us):
                for partition, at_us, record in zip(*(column.to_pylist() for column in batch.columns), strict=True):
                    event = _decode(record)
                    if isinstance(event, kind):
                        yield partition, at_us, event

    def columns(self, name: TableName, columns: Sequence[str], where: pc.Expression | None = None) -> pa.Table:
        """Some columns of a whole table, or of the rows that `where` takes, without its records."""
        table = self._table(name)
        if table is None:
            return SCHEMA.empty_table().select(columns)
        return table.to_pyarrow_dataset().to_table(columns=list(columns), filter=where, use_threads=THREADS)

    def batches(
        self, name: TableName, columns: Sequence[str], received_since_us: int | None = None
    ) -> Iterator[pa.RecordBatch]:
        """Like `columns`, a few thousand rows at a time, in bounded memory; those received after a moment, or all."""
        table = self._table(name)
        if table is not None:
            newer = None if received_since_us is None else pc.field("received_at_us") > received_since_us
            dataset = table.to_pyarrow_dataset()
            yield from dataset.scanner(columns=list(columns), filter=newer, use_threads=THREADS, **SLOWLY).to_batches()

    def applied(self, log: str, topic: str, partition: int) -> int:
        """The offset up to which a partition of the log of this identity has been applied (0: nothing)."""
        table = self._table(TABLE_OF_TOPIC[topic])
        return 0 if table is None else table.transaction_version(app_of(log, topic, partition)) or 0

    def _records(
        self, name: TableName, since_us: int, until_us: int, only: Set[bytes] | None = None
    ) -> Iterator[tuple[Turn | Rating | Judgement, str]]:
        table = self._table(name)
        if table is None:
            return
        span = (pc.field("occurred_at_us") >= since_us) & (pc.field("occurred_at_us") <= until_us)
        days = (pc.field("day") >= day_of(since_us)) & (pc.field("day") <= day_of(until_us))
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
        for batch in self.batches(name, ["record"], since_us):
            yield from map(_decode, batch.column("record").to_pylist())

    def _table(self, name: TableName) -> DeltaTable | None:
        try:
            return DeltaTable(self._root / name)
        except TableNotFoundError:
            return None


def _only(kind: Any, name: TableName, records: Iterable[tuple[Any, str]]) -> Iterator[tuple[Any, str]]:
    """Those of one kind."""
    others = 0
    for record, content_hash in records:
        if isinstance(record, kind):
            yield record, content_hash
        else:
            others += 1
    if others:
        log.warning("facts_of_another_kind", table=name, rows=others)
