"""Reading facts: iterables in no particular order, duplicates and conflicts included.

What is of another kind than its table is left out, with a warning: before topics took only their own kind, a rating on the
topic of turns became a row of turns.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence, Set
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.fs as pafs
import structlog
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError, TableNotFoundError

from feedback.digests import payload_of
from feedback.facts.tables import SCHEMA, TABLE_OF_TOPIC, TABLES, TableName, app_of, day_of, held
from feedback.intake.contract import typed_value
from feedback.records import Judgement, Rating, Turn, TurnKey, Unjudged, Verdict

THREADS = False
"""pyarrow's own threads abort a process that ends right after a read (7 of 30 short commands on a busy machine)."""


SLOWLY: dict[str, Any] = {"batch_size": 8_192, "batch_readahead": 1, "fragment_readahead": 1}
"""How whole tables are read: by default gigabytes of records would lie ready before the first is looked at."""

log = structlog.get_logger()

_decode: Callable[[str], Turn | Rating | Verdict | Unjudged] = msgspec.json.Decoder(
    Turn | Rating | Verdict | Unjudged
).decode


Positions = dict[str, int]
"""How far the labels of each partition of each log were read, by `tables.app_of`: the offset that comes next."""

PAYLOAD = ("tenant", "conversation_id", "turn_id", "content_hash")
LABEL_TABLES: tuple[TableName, ...] = ("ratings", "verdicts")
_TOPICS = {table: topic for topic, table in TABLE_OF_TOPIC.items()}


class FactsDamaged(Exception):
    """A file of the facts is gone, or is not what was written."""


class Facts:
    """Reads the facts under `root`: iterables in no particular order, duplicates and conflicts included.

    What reads raises FactsDamaged, with a sentence.
    """

    def __init__(self, root: Path, view: Mapping[TableName, DeltaTable | None] | None = None) -> None:
        self._root, self._view = root, view

    @contextlib.contextmanager
    def pinned(self) -> Iterator[Facts]:
        """The facts as they are now: what comes in meanwhile is not among them, and nothing of them is cleared away,
        however long it takes."""
        with held(self._root, fcntl.LOCK_SH, wait=True):
            # turns last: what a label speaks of is there
            yield Facts(self._root, {name: self._table(name) for name in reversed(TABLES)})

    def turns(
        self, since_us: int = 0, until_us: int = 2**62, only: Set[bytes] | None = None
    ) -> Iterator[tuple[Turn, str]]:
        """Turns with their content hashes: all, or those whose `census.payload_of` is in `only`."""
        yield from _only(Turn, "turns", self._records("turns", since_us, until_us, only))

    def turns_of(self, turns: Set[TurnKey]) -> Iterator[tuple[Turn, str]]:
        """Those of these turns that there are, with their content hashes: every fact of them."""
        table = self._table("turns") if turns else None
        if table is None:
            return
        names = pa.array(sorted({turn_id for _, _, turn_id in turns}))
        for batch in _scanned(table, "turns", [*PAYLOAD, "record"], None):
            named = batch.filter(pc.is_in(batch.column("turn_id"), names))
            for *key, content_hash, record in zip(*(column.to_pylist() for column in named.columns), strict=True):
                if tuple(key) in turns and isinstance(event := _decode(record), Turn):
                    yield event, content_hash

    def turns_before(self, until_us: int) -> int:
        """How many facts of turns are older."""
        table = self._table("turns")
        older = (pc.field("day") <= day_of(until_us)) & (pc.field("occurred_at_us") < until_us)
        with _whole("turns"):
            return 0 if table is None else int(_dataset(table).count_rows(filter=older, use_threads=THREADS))

    def known_before(self, until_us: int, turns: Set[TurnKey]) -> Set[TurnKey]:
        """Those of the turns of which there is an older fact."""
        table, found = self._table("turns") if turns else None, set[TurnKey]()
        if table is None:
            return found
        names = pa.array(sorted({turn_id for _, _, turn_id in turns}))
        where = (pc.field("day") <= day_of(until_us)) & (pc.field("occurred_at_us") < until_us)
        for batch in _scanned(table, "turns", ["tenant", "conversation_id", "turn_id"], where):
            # as part of `where` it would find nothing: the files keep no statistics of ids
            named = batch.filter(pc.is_in(batch.column("turn_id"), names))
            found |= turns & set(zip(*(column.to_pylist() for column in named.columns), strict=True))
        return found

    def ratings(self, since_us: int = 0, until_us: int = 2**62) -> Iterator[tuple[Rating, str]]:
        """Ratings with their content hashes."""
        for record, content_hash in _only(Rating, "ratings", self._records("ratings", since_us, until_us)):
            yield msgspec.structs.replace(record, value=typed_value(record.kind, record.value)), content_hash

    def verdicts(self, since_us: int = 0, until_us: int = 2**62) -> Iterator[Judgement]:
        """Verdicts, and the questions that found none."""
        for record, _ in _only(Verdict | Unjudged, "verdicts", self._records("verdicts", since_us, until_us)):
            yield record

    def positions(self) -> Positions:
        """How far these facts go, in every partition that has labels."""
        ends: Positions = {}
        for name in LABEL_TABLES:
            rows = self.columns(name, ["log", "partition", "offset"])
            places = rows.group_by(["log", "partition"], use_threads=THREADS).aggregate([("offset", "max")])
            for place in places.to_pylist():
                ends[_place(name, place["log"], place["partition"])] = place["offset_max"] + 1
        return ends

    def labels_since(self, before: Positions | int, kinds: Collection[str]) -> tuple[int, int]:
        """Ratings of these kinds by users and experts, and verdicts, that are new: those of which nothing lies before
        these positions, or was received until this moment. One counts once, however often it was sent."""

        def by_people(record: object) -> bool:
            return isinstance(record, Rating) and record.kind in kinds and record.source != "system"

        verdicts = self._new("verdicts", before, lambda record: isinstance(record, Verdict))
        return self._new("ratings", before, by_people), verdicts

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
        with _whole(name):
            return _dataset(table).to_table(columns=list(columns), filter=where, use_threads=THREADS)

    def batches(
        self, name: TableName, columns: Sequence[str], received_since_us: int | None = None
    ) -> Iterator[pa.RecordBatch]:
        """Like `columns`, a few thousand rows at a time, in bounded memory; those received after a moment, or all."""
        table = self._table(name)
        if table is not None:
            newer = None if received_since_us is None else pc.field("received_at_us") > received_since_us
            yield from _scanned(table, name, columns, newer)

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
        for batch in _scanned(table, name, [*PAYLOAD, "record"], days & span):
            if only is not None:
                names = (batch.column(name).to_pylist() for name in PAYLOAD)
                batch = batch.filter(pa.array([payload_of(*name) in only for name in zip(*names, strict=True)]))
            hashes = batch.column("content_hash").to_pylist()
            for record, content_hash in zip(batch.column("record").to_pylist(), hashes, strict=True):
                yield _decode(record), content_hash

    def _new(self, name: TableName, before: Positions | int, counts: Callable[[object], bool]) -> int:
        known, new = set[tuple[str, str]](), set[tuple[str, str]]()
        columns = ["log", "partition", "offset", "received_at_us", "tenant", "event_id", "record"]
        for batch in self.batches(name, columns):
            rows = zip(*(column.to_pylist() for column in batch.columns), strict=True)
            for log, partition, offset, at_us, tenant, event_id, record in rows:
                if not counts(_decode(record)):
                    continue
                if isinstance(before, int):
                    old = at_us <= before
                else:
                    old = offset < before.get(_place(name, log, partition), 0)
                (known if old else new).add((tenant, event_id))
        return len(new - known)

    def _table(self, name: TableName) -> DeltaTable | None:
        if self._view is not None:
            return self._view[name]
        try:
            with _whole(name):
                return DeltaTable(self._root / name)
        except TableNotFoundError:
            return None


@contextlib.contextmanager
def _whole(name: TableName) -> Iterator[None]:
    """What reads a table's files: says so where one of them is gone or damaged."""
    try:
        yield
    except TableNotFoundError:
        raise
    except (DeltaError, pa.ArrowInvalid, OSError) as error:
        if isinstance(error, OSError) and error.errno not in (None, errno.ENOENT):  # of the disk, not of the file
            raise
        why = str(error).partition("\n")[0][:300]
        raise FactsDamaged(
            f"a file of the facts ({name}) is damaged or gone ({why}): stop the service and put the state directory's backup in "
            f"place (docs/operate.md, Back up)"
        ) from error


def _scanned(
    table: DeltaTable, name: TableName, columns: Sequence[str], where: pc.Expression | None
) -> Iterator[pa.RecordBatch]:
    """A few thousand rows at a time, in bounded memory."""
    with _whole(name):
        scanner = _dataset(table).scanner(columns=list(columns), filter=where, use_threads=THREADS, **SLOWLY)
        yield from scanner.to_batches()


def _dataset(table: DeltaTable) -> Any:
    """A table's files, read by pyarrow itself: with deltalake's way to them its threads call Python, and abort a process
    that ends just then."""
    files, root = pafs.FileSystem.from_uri(table.table_uri)
    return table.to_pyarrow_dataset(filesystem=pafs.SubTreeFileSystem(root, files))


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


def _place(name: TableName, log: str | None, partition: int) -> str:
    """Rows of the first days do not say which log they came from."""
    return app_of(log or "", _TOPICS[name], partition)
