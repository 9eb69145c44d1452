"""Snapshots: a window of the facts as an immutable, content-hashed directory that training reads.

`<name>/` holds pairs, unpaired, demonstrations and turns as parquet, `manifest.json`, and `_SEALED`, written last. It is
made under a temporary name and renamed, so a directory under its own name is complete. The name comes from the hash of
the content: sealing the same facts twice gives one snapshot.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from feedback.dataset import tables
from feedback.dataset.compute import RULES_VERSION, Counts, FactsReader, compute
from feedback.dataset.tables import TABLES, Row, TableName
from feedback.digests import digest_of
from feedback.durable import sha256_file, staged
from feedback.settings import WindowSettings

FORMAT = 1
MANIFEST = "manifest.json"
MARKER = "_SEALED"


class SnapshotError(Exception):
    """A snapshot can't be read, or is not what it says."""


class Lineage(Struct, frozen=True):
    """The snapshot before this one in its directory."""

    name: str
    dataset_hash: str


class Manifest(Struct, frozen=True, kw_only=True):
    """What a snapshot says of itself."""

    format: int
    name: str
    dataset_hash: str
    as_of_us: int
    rules_version: str
    window: dict[str, Any]
    counts: Counts
    rows: dict[str, int]
    predecessor: Lineage | None = None
    erasures: list[str] = []


class Snapshot(Struct, frozen=True):
    """A sealed snapshot."""

    path: Path
    manifest: Manifest

    @property
    def name(self) -> str:
        return self.manifest.name

    @property
    def dataset_hash(self) -> str:
        return self.manifest.dataset_hash

    @property
    def counts(self) -> Counts:
        return self.manifest.counts


def seal(
    facts: FactsReader,
    as_of_us: int,
    settings: WindowSettings,
    directory: Path,
    rules_version: str = RULES_VERSION,
) -> Snapshot:
    """Compute the snapshot of the facts as of a moment and make it durable under `directory`."""
    content, counts = compute(facts, as_of_us, settings)
    dataset_hash = tables.hash_of(content, as_of_us, rules_version)
    moment = datetime.fromtimestamp(as_of_us // 1_000_000, UTC)
    name = f"{moment:%Y%m%dT%H%M%SZ}-{dataset_hash.removeprefix('sha256:')[:12]}"
    directory.mkdir(parents=True, exist_ok=True)
    earlier = [manifest for manifest in list_snapshots(directory) if manifest.name != name]
    manifest = Manifest(
        format=FORMAT,
        name=name,
        dataset_hash=dataset_hash,
        as_of_us=as_of_us,
        rules_version=rules_version,
        window=settings.model_dump(mode="json"),
        counts=counts,
        rows={table: len(content[table]) for table in TABLES},
        predecessor=Lineage(earlier[-1].name, earlier[-1].dataset_hash) if earlier else None,
    )
    return _publish(directory / name, manifest, content)


def load_manifest(path: Path) -> Manifest:
    """The manifest of the snapshot at `path`; raises SnapshotError if it is not sealed or not readable."""
    if not (path / MARKER).exists():
        raise SnapshotError(f"{path} is no sealed snapshot: it has no {MARKER}. Seal again; it is safe to delete.")
    try:
        manifest = msgspec.json.decode((path / MANIFEST).read_bytes(), type=Manifest)
    except (OSError, msgspec.DecodeError) as error:
        raise SnapshotError(
            f"the manifest of snapshot {path} can't be read ({error}): put the backup in place, or delete this snapshot; "
            f"`trimtab dataset seal` makes another from the facts"
        ) from error
    if manifest.format != FORMAT:
        raise SnapshotError(f"snapshot {path} has format {manifest.format}; this version reads format {FORMAT}")
    return manifest


def list_snapshots(directory: Path) -> list[Manifest]:
    """The sealed snapshots under `directory`, oldest `as_of` first."""
    found = [load_manifest(path.parent) for path in directory.glob(f"[!.]*/{MARKER}")]
    return sorted(found, key=lambda manifest: (manifest.as_of_us, manifest.name))


def read(path: Path, table: TableName) -> Iterator[Any]:
    """The records of a table: PreferencePair, UnpairedLabel, Demonstration or ServedTurn."""
    load_manifest(path)
    for row in _rows(path, table):
        yield tables.record_of(table, row)


def learned_turns(path: Path) -> frozenset[bytes]:
    """`digests.digest_of` the key of every turn that trains or calibrates, in any table; raises SnapshotError."""
    load_manifest(path)
    found = set[bytes]()
    with _readable(path):
        for table in TABLES:
            for split, *key in tables.columns(path, table, ("split", "tenant", "conversation_id", "turn_id")):
                if split != "gate":
                    found.add(digest_of(*key))
    return frozenset(found)


def verify(path: Path) -> Manifest:
    """Hash the content again; raises SnapshotError if it is not what was sealed."""
    manifest = load_manifest(path)
    if (path / MARKER).read_text().strip() != sha256_file(path / MANIFEST):
        raise SnapshotError(f"the manifest of snapshot {path} was changed after it was sealed: do not train on it")
    found = tables.hash_of({table: _rows(path, table) for table in TABLES}, manifest.as_of_us, manifest.rules_version)
    if found != manifest.dataset_hash:
        raise SnapshotError(
            f"snapshot {path} was changed after it was sealed: its rows hash to {found}, its manifest says "
            f"{manifest.dataset_hash}. Do not train on it; seal again from the facts."
        )
    return manifest


class Change(Struct, frozen=True):
    """Rows of one table by what became of them from one snapshot to another."""

    added: int
    removed: int
    changed: int


def diff(before: Path, after: Path) -> dict[TableName, Change]:
    """How the rows of two snapshots differ, by table."""
    changes: dict[TableName, Change] = {}
    for table in TABLES:
        old, new = (
            {tables.id_of(row): hashlib.sha256(tables.canonical(row)).digest() for row in _rows(path, table)}
            for path in (before, after)
        )
        common = old.keys() & new.keys()
        changed = sum(old[row] != new[row] for row in common)
        changes[table] = Change(len(new) - len(common), len(old) - len(common), changed)
    return changes


def export(path: Path, format: str = "jsonl") -> Iterator[str]:
    """The snapshot as lines of JSON, one row each, with `table` naming where it belongs. Lines have no newline."""
    if format != "jsonl":
        raise SnapshotError(f"unknown format {format!r}: known is jsonl (as parquet the tables are in {path})")
    load_manifest(path)
    for table in TABLES:
        for row in _rows(path, table):
            record = msgspec.to_builtins(tables.record_of(table, row))
            yield msgspec.json.encode({"table": table, **record}).decode()


def _rows(path: Path, table: TableName) -> Iterator[Row]:
    """The rows of a table; raises SnapshotError where its file is gone or damaged."""
    with _readable(path):
        yield from tables.read(path, table)


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError) as error:
        raise SnapshotError(
            f"the tables of snapshot {path} can't be read ({error}): put the backup in place, or delete this snapshot; "
            f"`trimtab dataset seal` makes another from the facts"
        ) from error


def _publish(path: Path, manifest: Manifest, content: dict[TableName, list[Row]]) -> Snapshot:
    if not path.exists():
        with staged(path.parent) as fresh:
            for table in TABLES:
                tables.write(fresh.path / f"{table}.parquet", table, content[table])
            (fresh.path / MANIFEST).write_bytes(msgspec.json.format(msgspec.json.encode(manifest, order="sorted")))
            fresh.publish(path.name, MARKER, sha256_file(fresh.path / MANIFEST) + "\n")
    return Snapshot(path, load_manifest(path))


__all__ = [
    "RULES_VERSION",
    "Change",
    "Counts",
    "FactsReader",
    "Lineage",
    "Manifest",
    "Snapshot",
    "SnapshotError",
    "diff",
    "export",
    "list_snapshots",
    "load_manifest",
    "read",
    "seal",
    "verify",
]
