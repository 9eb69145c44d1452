from __future__ import annotations

import json
from pathlib import Path

import pytest
from deltalake import DeltaTable

from tests.deploy.commands import SAMPLE, answer, trimtab

pytestmark = pytest.mark.slow


def test_a_replayed_log_is_found_good_and_what_is_lost_comes_back(tmp_path: Path) -> None:
    hashed = answer("replay", "--no-train", SAMPLE, cwd=tmp_path)["dataset_hash"]
    found = answer("audit", "verify", cwd=tmp_path)
    assert found["good"]
    assert sum(one["records"] for one in found["partitions"]) > 1_000
    DeltaTable(tmp_path / ".trimtab/facts/turns").delete("offset = 2")
    lost = trimtab("audit", "verify", "--json", cwd=tmp_path)
    assert lost.returncode == 1
    missing = [(one["topic"], one["missing"]) for one in json.loads(lost.stdout)["partitions"] if one["missing"]]
    assert set(map(str, missing)) == {"('turns.served', [2])"}
    shown = trimtab("audit", "verify", cwd=tmp_path)
    assert "missing at 2" in shown.stdout
    assert "--repair" in shown.stdout
    mended = answer("audit", "verify", "--repair", cwd=tmp_path)
    assert (mended["good"], mended["repaired"]) == (True, len(missing))
    again = answer("replay", "--no-train", SAMPLE, cwd=tmp_path)
    assert (again["turns"], again["dataset_hash"]) == (0, hashed)
