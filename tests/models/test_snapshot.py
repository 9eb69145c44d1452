"""What a training reads of a snapshot: all of it, or a sentence."""

from __future__ import annotations

from pathlib import Path

import pytest

from feedback.dataset.tables import ServedTurn
from feedback.records import Demonstration, PreferencePair, Split, UnpairedLabel
from models.errors import JobFailed
from models.snapshot import SnapshotData, read_dataset_hash, read_snapshot
from tests.models.snapshots import common, pair, said, seal, support_log, thumb


def test_every_record_of_the_snapshot_is_read_in_order_of_ids(tmp_path: Path) -> None:
    records = support_log(30)
    data = read_snapshot(seal(tmp_path / "snap", list(reversed(records))))
    assert data.name == "snap"
    assert data.dataset_hash == read_dataset_hash(tmp_path / "snap")
    assert data.pairs == [record for record in records if isinstance(record, PreferencePair)]
    assert data.labels == [record for record in records if isinstance(record, UnpairedLabel)]
    assert data.demonstrations == [record for record in records if isinstance(record, Demonstration)]
    assert data.turns == [record for record in records if isinstance(record, ServedTurn)]


def test_a_snapshot_that_is_not_sealed_is_no_snapshot(tmp_path: Path) -> None:
    path = seal(tmp_path / "snap", support_log(5))
    (path / "_SEALED").unlink()
    for read in (read_snapshot, read_dataset_hash):
        with pytest.raises(JobFailed, match="no sealed snapshot"):
            read(path)


def test_a_snapshot_with_rows_of_another_is_refused(tmp_path: Path) -> None:
    path, other = seal(tmp_path / "snap", support_log(5)), seal(tmp_path / "other", support_log(5, seed=1))
    (other / "turns.parquet").replace(path / "turns.parquet")
    with pytest.raises(JobFailed, match="was changed after it was sealed"):
        read_snapshot(path)


def test_a_table_that_is_cut_off_is_refused(tmp_path: Path) -> None:
    table = seal(tmp_path / "snap", support_log(5)) / "pairs.parquet"
    table.write_bytes(table.read_bytes()[:-20])
    with pytest.raises(JobFailed, match="can't be read"):
        read_snapshot(tmp_path / "snap")


def test_labels_are_counted_and_weighed_by_split() -> None:
    of_pairs: tuple[Split, ...] = ("train", "gate", "train")
    of_thumbs: tuple[Split, ...] = ("train", "calibrate")
    pairs = [pair(n, split, said("a"), "b", "c") for n, split in enumerate(of_pairs)]
    thumbs = [thumb(n, split, said("a"), "b", True) for n, split in enumerate(of_thumbs)]
    shown = [Demonstration(id="d", prompt=said("a"), reply="b", **(common(9, "train") | {"weight": 4.0}))]
    data = SnapshotData("s", "sha256:0", pairs, thumbs, shown, [])
    assert [data.label_count(split) for split in ("train", "calibrate", "gate")] == [4, 1, 1]
    assert [data.preference_weight(split) for split in ("train", "calibrate", "gate")] == [3.0, 1.0, 1.0]
