"""A sealed snapshot directory, read back as records. No torch.

What comes in: `manifest.json`, the marker `_SEALED` and four parquet files. Only the columns that learning needs are
read. Rows come out sorted by id, so that nothing depends on the order in which they were written.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pyarrow.parquet as parquet
from msgspec import Struct

from feedback.records import Message
from models.errors import JobFailed

T = TypeVar("T")


class Pair(Struct, frozen=True):
    """Of two replies to one prompt, `chosen` is preferred with probability `preference` (0.5..1)."""

    id: str
    split: str
    prompt: list[Message]
    chosen: str
    rejected: str
    preference: float
    weight: float
    locale: str | None = None


class Label(Struct, frozen=True):
    """One reply is wanted with probability `desirable` (0..1)."""

    id: str
    split: str
    prompt: list[Message]
    reply: str
    kind: str
    desirable: float
    weight: float
    locale: str | None = None


class Demo(Struct, frozen=True):
    """A reply to be imitated."""

    id: str
    split: str
    prompt: list[Message]
    reply: str
    weight: float
    locale: str | None = None


class ServedTurn(Struct, frozen=True):
    """One exchange of the window, labelled or not."""

    turn_id: str
    conversation_id: str
    split: str
    prompt: list[Message]
    reply: str
    locale: str | None
    occurred_at_us: int


class SnapshotData(Struct, frozen=True):
    """All that a training sees."""

    name: str
    dataset_hash: str
    pairs: list[Pair]
    labels: list[Label]
    demonstrations: list[Demo]
    turns: list[ServedTurn]

    def label_count(self, split: str) -> int:
        """Pairs, unpaired labels and demonstrations of `split`."""
        return sum(row.split == split for rows in (self.pairs, self.labels, self.demonstrations) for row in rows)


def read_manifest(path: Path) -> dict[str, Any]:
    """The snapshot's manifest; raises JobFailed when the directory is not a sealed snapshot."""
    if not (path / "_SEALED").is_file():
        raise JobFailed(f"{path} is not a sealed snapshot (it has no _SEALED): seal one and name that")
    try:
        manifest: dict[str, Any] = json.loads((path / "manifest.json").read_bytes())
        if not isinstance(manifest["dataset_hash"], str):
            raise KeyError("dataset_hash")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise JobFailed(f"the manifest of snapshot {path} is damaged ({error}): seal the snapshot anew") from None
    return manifest


def read_snapshot(path: Path) -> SnapshotData:
    """Every record of the sealed snapshot at `path`; raises JobFailed when it is not sealed or damaged."""
    manifest = read_manifest(path)
    try:
        return SnapshotData(
            str(manifest.get("name", path.name)),
            manifest["dataset_hash"],
            _records(path / "pairs.parquet", Pair, lambda row: row.id),
            _records(path / "unpaired.parquet", Label, lambda row: row.id),
            _records(path / "demonstrations.parquet", Demo, lambda row: row.id),
            _records(path / "turns.parquet", ServedTurn, lambda row: row.turn_id),
        )
    except (OSError, ValueError, KeyError) as error:
        raise JobFailed(f"snapshot {path} is damaged ({error}): seal it anew") from None


def _records(path: Path, kind: type[T], key: Callable[[T], str]) -> list[T]:
    return sorted(_rows(path, kind), key=key)


def _rows(path: Path, kind: type[T]) -> Iterator[T]:
    fields: tuple[str, ...] = kind.__struct_fields__  # type: ignore[attr-defined]
    for batch in parquet.ParquetFile(path).iter_batches(columns=list(fields)):
        for row in batch.to_pylist():
            row["prompt"] = json.loads(row["prompt"])
            yield kind(**{name: row[name] for name in fields})
