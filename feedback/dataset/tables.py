"""The tables of a snapshot: records as parquet rows and back, and the hash of what they say.

Columns are the record's fields; `prompt` and `provenance` are JSON text, and labels have `source` as a plain column too.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
from msgspec import Struct

from feedback.digests import MASK, masked
from feedback.records import Demonstration, Message, PreferencePair, Split, UnpairedLabel

TableName = Literal["pairs", "unpaired", "demonstrations", "turns"]
TABLES: tuple[TableName, ...] = get_args(TableName)


class ServedTurn(Struct, frozen=True, kw_only=True):
    """A turn of the window, labelled or not, as text."""

    turn_id: str
    conversation_id: str
    tenant: str
    split: Split
    prompt: list[Message]
    reply: str
    locale: str | None
    policy: str
    occurred_at_us: int


Record = PreferencePair | UnpairedLabel | Demonstration | ServedTurn
Row = dict[str, Any]

RECORD: dict[TableName, type[PreferencePair] | type[UnpairedLabel] | type[Demonstration] | type[ServedTurn]] = {
    "pairs": PreferencePair,
    "unpaired": UnpairedLabel,
    "demonstrations": Demonstration,
    "turns": ServedTurn,
}

_FLOATS = frozenset({"preference", "weight", "desirable"})
_JSON = frozenset({"prompt", "provenance"})
_ENDED = frozenset({"ended", "rejected_ended"})
"""Columns that came later: a snapshot without them is one of replies that all ended."""
_encode: Callable[[Any], bytes] = msgspec.json.Encoder(order="deterministic").encode


def schema_of(table: TableName) -> pa.Schema:
    """The parquet schema of a table."""
    fields = []
    for name in RECORD[table].__struct_fields__:
        kind = pa.bool_() if name in _ENDED else pa.float64() if name in _FLOATS else pa.string()
        kind = pa.int64() if name.endswith("_us") else kind
        fields.append(pa.field(name, kind, nullable=name == "locale"))
    if table != "turns":
        fields.append(pa.field("source", pa.string(), nullable=False))
    return pa.schema(fields)


def row_of(record: Record) -> Row:
    """A record as a row."""
    row = {name: getattr(record, name) for name in record.__struct_fields__}
    for name in _JSON & row.keys():
        row[name] = _encode(row[name]).decode()
    if not isinstance(record, ServedTurn):
        row["source"] = record.provenance.source
    return row


def record_of(table: TableName, row: Row) -> Any:
    """The record of a row."""
    fields = {name: msgspec.json.decode(value) if name in _JSON else value for name, value in row.items()}
    fields.pop("source", None)
    return msgspec.convert(fields, RECORD[table])


def sorted_rows(records: Iterable[Record]) -> list[Row]:
    """Rows in the one order that hashes and files use: by id."""
    return sorted((row_of(record) for record in records), key=id_of)


def id_of(row: Row) -> tuple[str, ...]:
    """What names a row in its table, whatever it says."""
    return (row["tenant"], row["id"]) if "id" in row else (row["tenant"], row["turn_id"], row["conversation_id"])


def ended(row: Row, table: TableName) -> Row:
    """The row with the columns that came later: those of a snapshot without them all ended."""
    return dict.fromkeys(_ENDED & set(RECORD[table].__struct_fields__), True) | row


def canonical(row: Row) -> bytes:
    """What a row says, as bytes; not part of it: who said it, ids that were hashed (with a key), and that a reply ended, as
    nearly all do."""
    row = row | {name: masked(row[name]) for name in ("id", "turn_id", "conversation_id") if name in row}
    if any(row.get(name) for name in _ENDED):
        row = {name: value for name, value in row.items() if name not in _ENDED or not value}
    if "provenance" in row:
        told = msgspec.json.decode(row["provenance"])
        events = {name: sorted(map(masked, told[name])) for name in ("event_ids", "superseded") if name in told}
        row = {**row, "provenance": {**told, **events, "rater": None}}
    return _encode(row)


def hash_of(tables: Mapping[TableName, Iterable[Row]], as_of_us: int, rules_version: str) -> str:
    """`sha256:<hex>` of the rows (each table in order of `id_of`, last those whose ids were hashed), the moment and the rules."""
    digest = hashlib.sha256(_encode({"as_of_us": as_of_us, "rules_version": rules_version}))
    for table in TABLES:
        digest.update(b"\n" + table.encode())
        hashed = []
        for row in tables[table]:
            if MASK in map(masked, id_of(row)):
                hashed.append(canonical(row))
            else:
                digest.update(b"\n" + canonical(row))
        for content in sorted(hashed):
            digest.update(b"\n" + content)
    return f"sha256:{digest.hexdigest()}"


def write(path: Path, table: TableName, rows: Sequence[Row]) -> None:
    """Write rows to a parquet file."""
    pq.write_table(pa.Table.from_pylist(list(rows), schema=schema_of(table)), path, compression="zstd")


def read(path: Path, table: TableName) -> Iterator[Row]:
    """The rows of a table of the snapshot at `path`, in order."""
    with pq.ParquetFile(path / f"{table}.parquet") as file:
        for batch in file.iter_batches(batch_size=1_000):
            yield from batch.to_pylist()


def columns(path: Path, table: TableName, names: Sequence[str]) -> Iterator[tuple[Any, ...]]:
    """These columns alone of a table of the snapshot at `path`, row by row."""
    with pq.ParquetFile(path / f"{table}.parquet") as file:
        for batch in file.iter_batches(batch_size=10_000, columns=list(names)):
            yield from zip(*(batch.column(name).to_pylist() for name in names), strict=True)
