from pathlib import Path

import msgspec
import pytest

from models.errors import JobFailed
from models.settings import PolicySettings
from models.spec import TrainingSpec, encode_spec, load_spec

SPEC = TrainingSpec(snapshot="a", state="s", policy=PolicySettings(beta=0.2), incumbent="s/candidates/abc")


def test_a_spec_survives_its_file(tmp_path: Path) -> None:
    (tmp_path / "spec.json").write_bytes(encode_spec(SPEC))
    assert load_spec(tmp_path / "spec.json") == SPEC


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "not a training spec"),
        ('{"snapshot": "a"}', "state"),
        ('{"snapshot": "a", "state": "s", "extra": 1}', "extra"),
        ('{"snapshot": "a", "state": "s", "policy": {"beta": -1}}', "beta"),
    ],
)
def test_a_wrong_spec_is_one_sentence_that_names_the_mistake(tmp_path: Path, text: str, reason: str) -> None:
    (tmp_path / "spec.json").write_text(text)
    with pytest.raises(JobFailed, match=reason) as failed:
        load_spec(tmp_path / "spec.json")
    assert "\n" not in str(failed.value)


def test_the_same_spec_on_the_same_data_finds_its_checkpoints_again() -> None:
    moved = msgspec.structs.replace(SPEC, snapshot="elsewhere")
    assert moved.work("sha256:1") == SPEC.work("sha256:1")


@pytest.mark.parametrize("changes", [{"threads": 3}, {"policy": PolicySettings(beta=0.3)}, {"incumbent": None}])
def test_what_changes_the_result_changes_the_work_directory(changes: dict[str, object]) -> None:
    assert msgspec.structs.replace(SPEC, **changes).work("sha256:1") != SPEC.work("sha256:1")
    assert SPEC.work("sha256:1") != SPEC.work("sha256:2")
