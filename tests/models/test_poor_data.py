"""Data that teaches little: a training ends with a report that says what could not be learned, or in one sentence."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.models.conftest import shortest_spec, start_job
from tests.models.snapshots import SPLITS, said, seal, thumb, turn


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where both trainings find one base: it is made of the turns, which are the same."""
    return tmp_path_factory.mktemp("poor") / "state"


@pytest.mark.slow
@pytest.mark.xdist_group("poor data")
@pytest.mark.parametrize("up", [True, False])
def test_thumbs_of_one_kind_on_replies_of_one_token_are_learned_from_as_far_as_they_go(
    state: Path, tmp_path: Path, up: bool
) -> None:
    records = [
        record
        for n in range(60)
        for record in (
            turn(n, SPLITS[n % 5], said(f"question {n}"), "ok"),
            thumb(n, SPLITS[n % 5], said(f"question {n}"), "ok", up),
        )
    ]
    job = start_job(shortest_spec(seal(tmp_path / "snap", records), state), tmp_path / "spec.json")
    out, err = job.communicate(timeout=300)
    assert (job.returncode, err) == (0, "")
    report = json.loads((Path(json.loads(out.splitlines()[-1])["path"]) / "report.json").read_bytes())
    kind = "wanted replies: what is not wanted" if up else "unwanted replies: what is wanted"
    assert report["unlearned"][:2] == [
        f"all 36 unpaired labels are of {kind} can't be learned from them",
        "all 36 replies are of one token: how to go on after it can't be learned",
    ]
    assert report["reward_model"]["few"].startswith("12 gate labels (thumbs) are few")
    assert report["retention"]["facts"]["base_right"] == 0
    assert report["retention"]["facts"]["said"].startswith("this base knows none of the fixed questions' answers")
