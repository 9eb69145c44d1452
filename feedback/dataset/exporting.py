"""A table of a snapshot as other programs train on it: TRL's conversational formats, OpenAI's fine-tuning, parquet.

One split at a time. Weights and provenance have no place in TRL's and OpenAI's formats and stay behind; parquet has them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from feedback.dataset import tables
from feedback.dataset.snapshot import SnapshotError, load_manifest, read
from feedback.dataset.tables import TableName
from feedback.records import Demonstration, PreferencePair, Split, UnpairedLabel

SHAPES = ("trl", "openai", "parquet")


@dataclass
class Told:
    """What came out so far; `undecided` rows prefer neither, which these formats can't say."""

    rows: int = 0
    undecided: int = 0


def lines(path: Path, shape: str, table: TableName, split: Split, told: Told) -> Iterator[str]:
    """Rows as lines of JSON without a newline; raises SnapshotError where the format has no such rows."""
    if shape == "openai" and table == "unpaired":
        raise SnapshotError(
            "OpenAI's fine-tuning has no rows for single labels: export pairs or demonstrations, or --format trl"
        )
    load_manifest(path)
    return _lines(path, shape, table, split, told)


def _lines(path: Path, shape: str, table: TableName, split: Split, told: Told) -> Iterator[str]:
    for record in read(path, table):
        if record.split != split:
            continue
        row = row_of(record, shape)
        if row is None:
            told.undecided += 1
        else:
            told.rows += 1
            yield msgspec.json.encode(row).decode()


def row_of(record: Any, shape: str) -> dict[str, Any] | None:
    """One row of TRL's or OpenAI's; None where the record prefers neither."""
    match record:
        case PreferencePair(preference=preference) if preference > 0.5:
            chosen, rejected = _reply(record.chosen), _reply(record.rejected)
            if shape == "trl":
                return {"prompt": record.prompt, "chosen": chosen, "rejected": rejected}
            asked = {"messages": record.prompt, "tools": [], "parallel_tool_calls": True}
            return {"input": asked, "preferred_output": chosen, "non_preferred_output": rejected}
        case UnpairedLabel(desirable=desirable) if desirable != 0.5:
            return {"prompt": record.prompt, "completion": _reply(record.reply), "label": desirable > 0.5}
        case Demonstration():
            return {"messages": [*record.prompt, *_reply(record.reply)]}
    return None


def write_parquet(path: Path, table: TableName, split: Split, target: Path) -> int:
    """The rows as the snapshot has them, with weights and provenance; returns how many."""
    load_manifest(path)
    schema, rows = tables.schema_of(table), 0
    source = path / f"{table}.parquet"
    with pq.ParquetWriter(target, schema, compression="zstd") as writer, pq.ParquetFile(source) as file:
        for batch in file.iter_batches(batch_size=1_000):
            kept = [tables.ended(row, table) for row in batch.to_pylist() if row["split"] == split]
            rows += len(kept)
            writer.write_table(pa.Table.from_pylist(kept, schema=schema))
    return rows


def _reply(text: str) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": text}]
