"""Where a candidate's record is found, and that only a whole one of this candidate and base is used."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from models.adapters import Manifest
from models.errors import AdapterInvalid
from models.records import find_record, store_record
from tests.models.test_proof import WORLD

MANIFEST = Manifest("w" * 64, "c" * 64, "tiny", "r", "t" * 64, "e" * 64)
RECORD = msgspec.structs.replace(WORLD.record, digest=MANIFEST.digest)


def candidate(root: Path, probes: Any = None) -> Path:
    path = root / "candidates" / MANIFEST.digest
    path.mkdir(parents=True)
    (path / "report.json").write_text(json.dumps({"probes": probes} if probes else {}))
    return path


def test_the_reports_record_is_taken(tmp_path: Path) -> None:
    path = candidate(tmp_path, {"items": [], "record": msgspec.to_builtins(RECORD)})
    assert find_record(path, MANIFEST) == RECORD


@pytest.mark.parametrize("report", ["{", "[]", '{"probes": 3}', '{"probes": {"items": []}}'])
def test_a_report_from_before_has_none_until_one_is_stored(tmp_path: Path, report: str) -> None:
    path = candidate(tmp_path)
    (path / "report.json").write_text(report)
    assert find_record(path, MANIFEST) is None
    store_record(path, RECORD)
    assert find_record(path, MANIFEST) == RECORD
    assert [file.name for file in path.iterdir()] == ["report.json"]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"digest": "0" * 64}, "has the record of 0000000000000000 on tiny"),
        ({"base_name": "llama"}, "on llama: it proves nothing here"),
        ({"base_revision": "s"}, "it proves nothing here"),
        ({"noise": 0.0}, "can't prove anything: its numbers"),
        ({"probes": 3}, "no readable record"),
    ],
)
def test_a_report_whose_record_is_damaged_or_of_another_is_refused_and_not_mended(
    tmp_path: Path, changes: dict[str, Any], reason: str
) -> None:
    path = candidate(tmp_path, {"record": msgspec.to_builtins(RECORD) | changes})
    store_record(path, RECORD)
    with pytest.raises(AdapterInvalid, match=reason):
        find_record(path, MANIFEST)


def changed(content: Any) -> Any:
    content["record"]["limits"]["deviation"] = 1e9
    return content


@pytest.mark.parametrize(
    "spoil",
    [
        changed,
        lambda content: content | {"sha256": "0"},
        lambda content: {},
        lambda content: [],
        lambda content: {"sha256": content["sha256"], "record": float("nan")},
    ],
)
def test_a_stored_record_that_was_changed_is_made_again(tmp_path: Path, spoil: Callable[[Any], Any]) -> None:
    path = candidate(tmp_path)
    store_record(path, RECORD)
    stored = tmp_path / "records" / f"{MANIFEST.digest}.json"
    stored.write_text(json.dumps(spoil(json.loads(stored.read_bytes()))))
    assert find_record(path, MANIFEST) is None


def test_a_stored_record_of_another_candidate_or_base_is_not_used(tmp_path: Path) -> None:
    path = candidate(tmp_path)
    store_record(path, RECORD)
    assert find_record(path, msgspec.structs.replace(MANIFEST, base_revision="s")) is None
