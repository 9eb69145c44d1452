"""`trimtab dataset`, as it is typed, over the snapshots of an earlier version."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from deploy.state import open_state
from tests.deploy.cli.test_common import document, exactly, typed

OLD = Path(__file__).parents[2] / "fixtures" / "state-0.1.0.tar.xz"
FIRST, SECOND = "20261105T000000Z-13dfab28ec7d", "20261107T044221Z-31c92ba8d707"


@pytest.fixture(scope="module")
def sealed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two snapshots; for looking only."""
    return unpacked(tmp_path_factory.mktemp("sealed"))


def unpacked(folder: Path) -> Path:
    with tarfile.open(OLD) as archive:
        wanted = [
            member for member in archive if member.name in ("state", "state/FORMAT") or "snapshots" in member.name
        ]
        archive.extractall(folder, wanted, filter="data")
    (folder / "state").chmod(0o700)
    return folder / "state"


def test_snapshots_are_listed_oldest_first(sealed: Path) -> None:
    assert [one["name"] for one in document(sealed, "dataset", "ls")] == [FIRST, SECOND]
    code, out, _ = typed(sealed, "dataset", "ls")
    assert (code, "265" in out) == (0, True)


@pytest.mark.parametrize("prefix", [SECOND, "20261107", "31c92b"])
def test_a_snapshot_is_found_by_the_start_of_its_name_or_hash(sealed: Path, prefix: str) -> None:
    assert document(sealed, "dataset", "show", prefix)["name"] == SECOND
    code, out, _ = typed(sealed, "dataset", "show", prefix)
    assert (code, "(verified)" in out, FIRST in out) == (0, True, True)


@pytest.mark.parametrize(
    ("prefix", "sentence"), [("2026", "several snapshots begin"), ("x\udcff", "no snapshot begins")]
)
def test_a_name_that_is_not_one_snapshots_says_which_there_are(sealed: Path, prefix: str, sentence: str) -> None:
    for words in (("show", prefix), ("export", prefix), ("diff", FIRST, prefix)):
        code, out, error = typed(sealed, "dataset", *words)
        assert (code, out) == (1, "")
        assert error == f"trimtab: {sentence} with {prefix!r} (known: {FIRST}, {SECOND})"


def test_a_snapshot_differs_from_another_and_not_from_itself(sealed: Path) -> None:
    same = document(sealed, "dataset", "diff", SECOND, SECOND)
    assert {number for change in same.values() for number in change.values()} == {0}
    assert document(sealed, "dataset", "diff", FIRST, SECOND)["unpaired"]["added"] >= 213 - 49
    assert typed(sealed, "dataset", "diff", FIRST, SECOND)[1].startswith("table added removed changed")


def test_every_row_is_exported_as_one_line_that_names_its_table(sealed: Path) -> None:
    (rows,) = (one["rows"] for one in document(sealed, "dataset", "ls") if one["name"] == SECOND)
    code, out, error = exactly(sealed, "dataset", "export", SECOND)
    tables = [json.loads(line)["table"] for line in out.splitlines()]
    assert (code, error) == (0, "")
    assert {name: tables.count(name) for name in rows} == rows


def test_a_snapshot_that_was_changed_is_not_shown_as_sealed(tmp_path: Path) -> None:
    state = unpacked(tmp_path)
    changed = max((state / "snapshots" / SECOND).rglob("*.parquet"))
    changed.write_bytes(changed.read_bytes()[:-1] + b"x")
    code, out, error = typed(state, "dataset", "show", SECOND)
    assert (code, out, error.startswith("trimtab: ")) == (1, "", True)


def test_without_a_snapshot_it_says_what_seals_one(tmp_path: Path) -> None:
    state = open_state(tmp_path / "state").root
    assert typed(state, "dataset", "ls")[:2] == (
        0,
        "no snapshot yet: `trimtab dataset seal` seals one, so do `trimtab train` and `trimtab replay FILE --no-train`",
    )
    assert typed(state, "dataset", "show", "x")[2].endswith("(known: none yet)")


def test_what_is_known_now_is_sealed_when_somebody_asks(tmp_path: Path) -> None:
    state = open_state(tmp_path / "state").root
    made = document(state, "dataset", "seal")
    assert [one["name"] for one in document(state, "dataset", "ls")] == [made["name"]]
    assert typed(state, "dataset", "seal")[1].startswith("sealed ")


@pytest.mark.parametrize(
    ("shape", "table", "keys"),
    [
        ("trl", "pairs", {"prompt", "chosen", "rejected"}),
        ("trl", "labels", {"prompt", "completion", "label"}),
        ("trl", "demonstrations", {"messages"}),
        ("openai", "pairs", {"input", "preferred_output", "non_preferred_output"}),
        ("openai", "demonstrations", {"messages"}),
    ],
)
def test_a_table_is_exported_as_others_train_on_it_and_only_its_train_split(
    sealed: Path, tmp_path: Path, shape: str, table: str, keys: set[str]
) -> None:
    out = tmp_path / "rows.jsonl"
    words = ("dataset", "export", SECOND, "--format", shape, "--table", table, "--out", str(out))
    code, printed, error = typed(sealed, *words)
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert (code, printed) == (0, "")
    assert error.startswith(f"{len(rows):,} rows of")
    assert all(row.keys() == keys for row in rows)
    assert out.stat().st_mode & 0o777 == 0o600
    name = {"labels": "unpaired"}.get(table, table)
    told = [json.loads(line) for line in exactly(sealed, "dataset", "export", SECOND)[1].splitlines()]
    train = [row for row in told if row["table"] == name and row["split"] == "train"]
    train = [row for row in train if row.get("preference", row.get("desirable")) != 0.5]
    assert len(rows) == len(train)


def test_what_gates_is_exported_by_name_only_and_said_not_to_train(sealed: Path, tmp_path: Path) -> None:
    words = ("dataset", "export", SECOND, "--format", "trl", "--table", "labels")
    code, _, error = typed(sealed, *words, "--split", "gate")
    assert (code, "what gates must never train" in error) == (0, True)
    assert "must never train" not in typed(sealed, *words)[2]


def test_parquet_keeps_every_column(sealed: Path, tmp_path: Path) -> None:
    words = ("dataset", "export", "--format", "parquet", "--table", "labels")
    assert typed(sealed, *words, "--out", str(tmp_path / "out"))[0] == 0
    rows = pq.read_table(tmp_path / "out" / "unpaired.parquet").to_pylist()
    assert {row["split"] for row in rows} == {"train"}
    assert {"weight", "provenance", "source"} <= rows[0].keys()
    assert typed(sealed, *words)[0] == 2


def test_openai_has_no_single_labels(sealed: Path) -> None:
    code, _, error = typed(sealed, "dataset", "export", "--format", "openai", "--table", "labels")
    assert (code, "no rows for single labels" in error) == (2, True)


def test_rows_as_they_are_take_no_table(sealed: Path) -> None:
    assert typed(sealed, "dataset", "export", "--table", "pairs")[0] == 2
