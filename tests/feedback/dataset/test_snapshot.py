import gzip
import json
import os
import stat
from collections import Counter
from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from feedback import splits
from feedback.dataset import snapshot
from feedback.dataset.snapshot import Snapshot, SnapshotError
from feedback.dataset.tables import TABLES
from feedback.digests import digest_of
from feedback.intake import contract
from feedback.records import Rating, Turn
from feedback.settings import WindowSettings
from tests.feedback.builders import (
    AS_OF_US,
    MemoryFacts,
    rating,
    turn,
)
from tests.feedback.dataset.test_compute import EVENTS, Event


def seal(directory: Path, *events: Event, as_of_us: int = AS_OF_US) -> Snapshot:
    return snapshot.seal(MemoryFacts(events), as_of_us, WindowSettings(), directory)


# What a snapshot holds


def test_a_snapshot_holds_its_tables_and_accounts_for_everything(tmp_path: Path) -> None:
    sealed = seal(tmp_path, *EVENTS)
    assert sorted(path.name for path in sealed.path.iterdir()) == [
        "_SEALED", "demonstrations.parquet", "manifest.json", "pairs.parquet", "turns.parquet", "unpaired.parquet",
    ]  # fmt: skip
    counts = sealed.counts
    assert counts.turns == 4
    assert counts.ratings == {"thumbs": 2, "pick": 1, "edit": 1, "stars": 1}
    assert counts.rating_uses == {"used": 3, "conversation": 1, "orphan": 1}
    assert counts.verdict_uses == {"used": 1}
    assert counts.orphan_ratings == 1
    assert counts.conversation_ratings == {"stars": 1}
    assert (counts.unrated, counts.judged, counts.unjudged) == (2, 1, {"no_judge": 1})
    assert counts.untrainable == {"outcome_error": 1}
    assert (counts.dropped, counts.in_window) == ({}, 3)
    assert (counts.pairs, counts.unpaired, counts.demonstrations) == (
        {"pick": 1, "edit": 1},
        {"thumbs": 1, "verdict": 1},
        1,
    )
    assert counts.sources == {"user": 2, "expert": 2, "judge": 1}
    assert counts.splits["turns"] == {"train": 2, "gate": 1}
    assert sealed.manifest.rows == {"pairs": 2, "unpaired": 2, "demonstrations": 1, "turns": 3}
    assert sealed.manifest.window == WindowSettings().model_dump()
    assert sealed.manifest.erasures == []


def test_no_facts_make_an_empty_snapshot(tmp_path: Path) -> None:
    sealed = seal(tmp_path)
    assert set(sealed.manifest.rows.values()) == {0}
    assert snapshot.verify(sealed.path) == sealed.manifest


# The directory


def test_sealing_twice_is_one_snapshot(tmp_path: Path) -> None:
    first = seal(tmp_path, *EVENTS)
    before = (first.path / "manifest.json").stat().st_mtime_ns
    again = seal(tmp_path, *reversed(EVENTS), *EVENTS)
    assert again.path == first.path
    assert (first.path / "manifest.json").stat().st_mtime_ns == before
    assert [path.name for path in tmp_path.iterdir()] == [first.name]


def test_the_name_tells_the_moment_and_the_hash(tmp_path: Path) -> None:
    sealed = seal(tmp_path, *EVENTS)
    assert sealed.name == f"20231121T205320Z-{sealed.dataset_hash[7:19]}"


def test_a_snapshot_names_its_predecessor(tmp_path: Path) -> None:
    first = seal(tmp_path, *EVENTS)
    second = seal(tmp_path, *EVENTS, as_of_us=AS_OF_US + 1_000_000)
    assert first.manifest.predecessor is None
    assert second.manifest.predecessor is not None
    assert second.manifest.predecessor.dataset_hash == first.dataset_hash
    assert snapshot.list_snapshots(tmp_path) == [first.manifest, second.manifest]


def test_a_seal_that_fails_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        seal(tmp_path, *EVENTS)
    assert list(tmp_path.iterdir()) == []
    assert snapshot.list_snapshots(tmp_path) == []


def test_everything_is_on_disk_before_the_snapshot_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    real = os.fsync

    def fsync(descriptor: int) -> None:
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        synced.append(path.name if stat.S_ISREG(os.fstat(descriptor).st_mode) else "directory")
        assert not list(tmp_path.glob("2*")) or synced[-1] == "directory"
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    seal(tmp_path, *EVENTS)
    assert sorted(synced[:5]) == [
        "demonstrations.parquet",
        "manifest.json",
        "pairs.parquet",
        "turns.parquet",
        "unpaired.parquet",
    ]
    assert synced[5:] == ["_SEALED", "directory", "directory"]


def test_a_directory_without_the_marker_is_no_snapshot(tmp_path: Path) -> None:
    sealed = seal(tmp_path, *EVENTS)
    (sealed.path / "_SEALED").unlink()
    assert snapshot.list_snapshots(tmp_path) == []
    with pytest.raises(SnapshotError, match="no sealed snapshot"):
        snapshot.load_manifest(sealed.path)
    with pytest.raises(SnapshotError, match="no sealed snapshot"):
        seal(tmp_path, *EVENTS)


def test_an_unreadable_manifest_is_an_error_that_names_it(tmp_path: Path) -> None:
    sealed = seal(tmp_path, *EVENTS)
    (sealed.path / "manifest.json").write_text('{"format": 1}')
    with pytest.raises(SnapshotError, match=sealed.name):
        snapshot.load_manifest(sealed.path)


def test_a_later_format_is_refused(tmp_path: Path) -> None:
    sealed = seal(tmp_path, *EVENTS)
    later = msgspec.structs.replace(sealed.manifest, format=2)
    (sealed.path / "manifest.json").write_bytes(msgspec.json.encode(later))
    with pytest.raises(SnapshotError, match="format 2"):
        snapshot.load_manifest(sealed.path)


def test_verify_finds_a_changed_row(tmp_path: Path) -> None:
    sealed = seal(tmp_path, *EVENTS)
    assert snapshot.verify(sealed.path) == sealed.manifest
    file = sealed.path / "unpaired.parquet"
    rows = pq.read_table(file)
    pq.write_table(pa.Table.from_pylist([{**row, "desirable": 0.5} for row in rows.to_pylist()], rows.schema), file)
    with pytest.raises(SnapshotError, match="was changed after it was sealed"):
        snapshot.verify(sealed.path)


def test_verify_finds_a_changed_manifest_and_a_broken_table(tmp_path: Path) -> None:
    sealed = seal(tmp_path, *EVENTS)
    manifest = (sealed.path / "manifest.json").read_bytes()
    (sealed.path / "manifest.json").write_bytes(manifest.replace(b'"orphan": 1', b'"orphan": 2'))
    with pytest.raises(SnapshotError, match="manifest"):
        snapshot.verify(sealed.path)
    (sealed.path / "manifest.json").write_bytes(manifest)
    (sealed.path / "turns.parquet").write_bytes(b"no parquet")
    with pytest.raises(SnapshotError, match="can't be read"):
        snapshot.verify(sealed.path)


def test_whoever_reads_a_broken_table_is_told_which_snapshot_it_is_of_and_what_to_do(tmp_path: Path) -> None:
    sealed = seal(tmp_path, *EVENTS)
    for table in ("turns", "unpaired", "pairs", "demonstrations"):
        (sealed.path / f"{table}.parquet").write_bytes(b"no parquet")
    for read in (
        lambda: list(snapshot.export(sealed.path)),
        lambda: list(snapshot.read(sealed.path, "turns")),
        lambda: snapshot.diff(sealed.path, sealed.path),
    ):
        with pytest.raises(
            SnapshotError, match=rf"{sealed.name} can't be read .* `trimtab dataset seal` makes another"
        ):
            read()


def test_diff_counts_added_removed_and_changed_rows(tmp_path: Path) -> None:
    before = seal(
        tmp_path, turn("t1"), turn("t2"), rating("a", "t1", "thumbs", True), rating("b", "t2", "thumbs", True)
    )
    after = seal(
        tmp_path, turn("t1"), turn("t3"), rating("a", "t1", "thumbs", False), rating("c", "t3", "thumbs", True)
    )
    change = snapshot.diff(before.path, after.path)
    assert (change["turns"].added, change["turns"].removed, change["turns"].changed) == (1, 1, 0)
    assert (change["unpaired"].added, change["unpaired"].removed, change["unpaired"].changed) == (1, 1, 1)
    assert change["pairs"] == snapshot.Change(0, 0, 0)


def test_export_writes_every_row_as_a_line_of_json(tmp_path: Path) -> None:
    sealed = seal(tmp_path, *EVENTS)
    lines = [json.loads(line) for line in snapshot.export(sealed.path)]
    assert Counter(line["table"] for line in lines) == Counter(sealed.manifest.rows)
    assert [line["chosen"] for line in lines if line.get("how") == "edit"] == ["over there"]
    with pytest.raises(SnapshotError, match="csv"):
        next(snapshot.export(sealed.path, "csv"))


# Real conversations, where they are at hand

REAL = Path(__file__).parents[4] / "shared" / "data" / "convai2" / "events.jsonl.gz"


@pytest.mark.slow
@pytest.mark.skipif(not REAL.exists(), reason="the recorded conversations are not on this machine")
def test_recorded_conversations_are_sealed_whole(tmp_path: Path) -> None:
    events: list[Event] = []
    with gzip.open(REAL) as lines:
        for line in lines:
            event = contract.parse(line, 2 * 10**15)
            assert isinstance(event, Turn | Rating)
            unit = event.user_id or event.conversation_id
            events.append(msgspec.structs.replace(event, bucket=splits.bucket(unit, event.tenant)))
    as_of_us = max(event.occurred_at_us for event in events)
    sealed = seal(tmp_path, *events, as_of_us=as_of_us)
    counts = sealed.counts
    assert (counts.turns, counts.ratings) == (6_714, {"thumbs": 1_256, "stars": 416})
    assert counts.conversation_ratings == {"stars": 416}
    assert counts.unpaired["thumbs"] + counts.rating_uses.get("outside_window", 0) == 1_256
    assert counts.unjudged == {"no_judge": 5_458}
    assert counts.in_window > 6_000
    assert seal(tmp_path, *reversed(events), as_of_us=as_of_us).path == sealed.path
    snapshot.verify(sealed.path)


def test_what_trains_or_calibrates_is_told_turn_by_turn_and_what_gates_is_not(tmp_path: Path) -> None:
    sealed = seal(tmp_path, *EVENTS)
    rows = [one for table in TABLES for one in snapshot.read(sealed.path, table)]
    learned = snapshot.learned_turns(sealed.path)
    assert learned
    for one in rows:
        is_learned = digest_of(one.tenant, one.conversation_id, one.turn_id) in learned
        assert is_learned == (one.split != "gate")


def test_what_a_snapshot_taught_is_not_known_without_it(tmp_path: Path) -> None:
    sealed = seal(tmp_path, *EVENTS)
    (sealed.path / "pairs.parquet").unlink()
    with pytest.raises(SnapshotError, match="can't be read"):
        snapshot.learned_turns(sealed.path)
    with pytest.raises(SnapshotError, match="no sealed snapshot"):
        snapshot.learned_turns(tmp_path / "none")
