"""`trimtab dataset`, as it is typed, over the snapshots of an earlier version."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

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
