"""All that a training sees of a sealed snapshot, read once and checked against its hash. No torch."""

from __future__ import annotations

from pathlib import Path

from msgspec import Struct

from feedback.dataset import snapshot
from feedback.dataset.tables import ServedTurn
from feedback.records import Demonstration, PreferencePair, UnpairedLabel
from models.errors import JobFailed


class SnapshotData(Struct, frozen=True):
    """The tables of one snapshot, in the order of their ids."""

    name: str
    dataset_hash: str
    pairs: list[PreferencePair]
    labels: list[UnpairedLabel]
    demonstrations: list[Demonstration]
    turns: list[ServedTurn]

    def label_count(self, split: str) -> int:
        """Pairs, unpaired labels and demonstrations of `split`."""
        splits = [x.split for x in self.pairs] + [x.split for x in self.labels] + [x.split for x in self.demonstrations]
        return splits.count(split)  # type: ignore[arg-type]

    def preference_weight(self, split: str) -> float:
        """Weight of the pairs and unpaired labels of `split` together."""
        pairs = sum(x.weight for x in self.pairs if x.split == split)
        return pairs + sum(x.weight for x in self.labels if x.split == split)


def read_dataset_hash(path: Path) -> str:
    """The hash that the snapshot at `path` says it has; raises JobFailed when it is not a sealed snapshot."""
    try:
        return snapshot.load_manifest(path).dataset_hash
    except snapshot.SnapshotError as error:
        raise JobFailed(str(error)) from None


def read_snapshot(path: Path) -> SnapshotData:
    """Every record of the snapshot at `path`; raises JobFailed when it is not sealed, damaged or changed."""
    try:
        manifest = snapshot.verify(path)
        return SnapshotData(
            manifest.name,
            manifest.dataset_hash,
            list(snapshot.read(path, "pairs")),
            list(snapshot.read(path, "unpaired")),
            list(snapshot.read(path, "demonstrations")),
            list(snapshot.read(path, "turns")),
        )
    except snapshot.SnapshotError as error:
        raise JobFailed(str(error)) from None
