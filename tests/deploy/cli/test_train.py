"""`trimtab train`, as it is typed where there is nothing to train on."""

from __future__ import annotations

from pathlib import Path

import pytest

from deploy.cli import train as module
from deploy.cli.common import FAILED, REFUSED
from deploy.control.store import open_control
from deploy.state import State, open_state
from tests.deploy.cli.typed import sentence, typed


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> State:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(module, "configure", lambda _: None)  # the logs of this process are pytest's
    return open_state(tmp_path / "state")


def test_too_few_labels_are_one_sentence_that_names_the_setting_and_no_training_is_recorded(state: State) -> None:
    said = sentence(typed("train", "--state", state.root, "--json"), FAILED)
    assert "has 0 labels" in said
    assert "train.min_labels" in said
    control = open_control(state.control)
    assert control.trainings.list(1) == []
    control.close()


def test_a_mistake_in_the_configuration_is_told_before_anything_is_sealed(state: State) -> None:
    Path("trimtab.toml").write_text("[train]\nmin_labels = 0\n")
    assert "train.min_labels" in sentence(typed("train", "--state", state.root), FAILED)
    assert not state.snapshots.exists() or not list(state.snapshots.iterdir())


def test_with_an_engine_that_takes_no_adapters_nothing_is_sealed_or_trained(state: State) -> None:
    Path("trimtab.toml").write_text("[engine]\nkind = 'openai'\nurls = ['http://gpu-1:8000/v1']\nmodel = 'm'\n")
    assert "this engine takes no adapters" in sentence(typed("train", "--state", state.root), REFUSED)
    assert not state.snapshots.exists() or not list(state.snapshots.iterdir())
