from __future__ import annotations

import json
import tarfile
from pathlib import Path

import pytest
from deltalake import DeltaTable, write_deltalake

from deploy.state import open_state
from tests.deploy.cli.test_common import document, typed
from tests.deploy.commands import ROOT, answer, part_of_sample, typed_in

OLD = ROOT / "tests" / "fixtures" / "state-0.1.0.tar.xz"


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A directory with a log and its facts."""
    with tarfile.open(OLD) as archive:
        archive.extractall(tmp_path, filter="data")
    (tmp_path / "state").chmod(0o700)
    return tmp_path / "state"


def test_an_empty_log_is_good(tmp_path: Path) -> None:
    state = open_state(tmp_path / "state").root
    code, out, error = typed(state, "audit", "verify")
    assert (code, error) == (0, "")
    assert out.endswith("good: 0 records are each one fact or one dead letter")
    repaired = document(state, "audit", "verify", "--repair")
    assert (repaired["good"], repaired["repaired"], repaired["dead_letters"]) == (True, 0, 0)


def test_a_fact_that_stands_twice_is_told_and_does_not_count_twice(old: Path) -> None:
    table = DeltaTable(old / "facts" / "ratings")
    write_deltalake(table, table.to_pyarrow_table(filters=[("partition", "=", 0), ("offset", "=", 3)]), mode="append")
    code, out, error = typed(old, "audit", "verify")
    assert (code, error) == (1, "")
    assert "/0 doubled at 3" in out
    assert out.endswith(
        "what is doubled counts once in every dataset; changed or unknown facts were written by something else"
    )
    assert "--repair" not in out


@pytest.mark.slow
def test_a_replayed_log_is_found_good_and_what_is_lost_comes_back(tmp_path: Path) -> None:
    log = part_of_sample(tmp_path)
    hashed = answer("replay", "--no-train", log, cwd=tmp_path)["dataset_hash"]
    found = answer("audit", "verify", cwd=tmp_path)
    assert found["good"]
    assert sum(one["records"] for one in found["partitions"]) > 1_000
    DeltaTable(tmp_path / ".trimtab/facts/turns").delete("offset = 2")
    lost = typed_in(tmp_path, "audit", "verify", "--json")
    assert lost.code == 1
    missing = [(one["topic"], one["missing"]) for one in json.loads(lost.out)["partitions"] if one["missing"]]
    assert set(map(str, missing)) == {"('turns.served', [2])"}
    shown = typed_in(tmp_path, "audit", "verify")
    assert "missing at 2" in shown.out
    assert "--repair" in shown.out
    mended = answer("audit", "verify", "--repair", cwd=tmp_path)
    assert (mended["good"], mended["repaired"]) == (True, len(missing))
    again = answer("replay", "--no-train", log, cwd=tmp_path)
    assert (again["turns"], again["dataset_hash"]) == (0, hashed)
