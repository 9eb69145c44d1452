"""`trimtab train`, as it is typed where there is nothing to train on, and where nothing is new."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest

from deploy.cli import train as module
from deploy.cli.common import DONE, FAILED, REFUSED
from deploy.control.store import open_control
from deploy.rules.names import short
from deploy.settings import load_settings
from deploy.state import State, open_state
from deploy.training import train as training
from feedback.durable import write_json
from models.snapshot import read_dataset_hash
from models.spec import TrainingSpec
from tests.deploy.candidates import base_of, make_candidate
from tests.deploy.cli.typed import sentence, typed
from tests.deploy.training.test_train import Arriving
from tests.fakes import CLOCK

SETTINGS = "[train]\nmin_labels = 1\n[window]\nmax_age_s = 1_000_000_000\n"
"""The facts of tests are years old."""


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


@dataclass
class Job:
    """Stands in for the training job: `seed` is what its adapter comes of, `snapshots` what it was asked to train on."""

    state: State
    seed: int = 0
    snapshots: list[str] = field(default_factory=list)
    stopped: bool = False

    def __call__(self, spec: TrainingSpec, *_: object) -> Path:
        snapshot = Path(spec.snapshot)
        self.snapshots.append(snapshot.name)
        work = spec.work(read_dataset_hash(snapshot))
        work.mkdir(exist_ok=True)
        if self.stopped:
            raise KeyboardInterrupt
        if (work / "result.json").exists():
            return self.state.candidates / str(json.loads((work / "result.json").read_bytes())["candidate"])
        for path in self.state.candidates.glob("[!.]*"):
            if json.loads((path / "report.json").read_bytes())["created_at_us"] == self.seed:
                digest = path.name
                break
        else:
            reward = {"metric": "thumbs", "accuracy": None, "interval": [0, 1], "holdout": 0}
            digest = make_candidate(
                self.state.candidates, self.seed, created_at_us=self.seed, reward_model=reward, seconds={"base": 1.0}
            )
        write_json(work / "result.json", {"candidate": digest})
        return self.state.candidates / digest


@pytest.fixture
def job(state: State, monkeypatch: pytest.MonkeyPatch) -> Job:
    stand_in = Job(state)
    monkeypatch.setattr(module, "train_candidate", partial(training.train, job=stand_in))
    monkeypatch.setattr(training, "find_base", lambda *_: base_of(state.candidates))
    Path("trimtab.toml").write_text(SETTINGS)
    return stand_in


@pytest.fixture
def arriving(state: State) -> Arriving:
    return Arriving(state)


def trained(state: State, *words: str) -> Any:
    said = typed("train", "--json", "--state", state.root, *words)
    assert said.code == DONE, said.error
    return json.loads(said.out)


def test_where_nothing_is_new_it_says_so_at_once_and_trains_nothing(state: State, job: Job, arriving: Arriving) -> None:
    arriving.label("a")
    first = trained(state)
    assert (first["trained"], len(job.snapshots)) == (True, 1)
    code, out, _ = typed("train", "--state", state.root)
    assert (code, len(job.snapshots)) == (DONE, 1)
    said, following = out.splitlines()
    assert said.startswith(f"nothing is new since candidate {short(first['digest'])} was trained")
    assert "--again" in said
    assert following == f"next: {first['next']}"
    again = trained(state)
    assert (again["trained"], again["digest"], again["same_as_before"]) == (False, first["digest"], True)
    control = open_control(state.control)
    assert len(control.trainings.list()) == 1
    control.close()


@pytest.mark.parametrize("what", ["label", "setting", "base", "candidate"])
def test_whatever_is_new_is_trained(
    state: State, job: Job, arriving: Arriving, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    arriving.label("a")
    trained(state)
    match what:
        case "label":
            arriving.label("b")
        case "setting":
            Path("trimtab.toml").write_text(SETTINGS + "[policy]\nbeta = 0.2\n")
        case "base":
            other = msgspec.structs.replace(base_of(state.candidates), revision="2")
            monkeypatch.setattr(training, "find_base", lambda *_: other)
        case "candidate":
            (path,) = (path for path in state.candidates.glob("[!.]*"))
            (path / "adapter" / "adapter_config.json").write_text("{}")
    control, settings = open_control(state.control), load_settings(None)
    sealed = training.as_before(state, control, training.seal_now(state, settings, CLOCK.now_us()))
    like = what == "label"  # more rows may take longer, about as long all the same
    assert bool(training.earlier_seconds(state, settings, control)) == like
    assert training.nothing_new(state, settings, control, sealed) is None
    control.close()


def test_again_begins_from_nothing_and_says_whether_the_result_is_the_same(
    state: State, job: Job, arriving: Arriving
) -> None:
    arriving.label("a")
    first = trained(state)
    again = trained(state, "--again")
    assert (again["trained"], again["digest"], again["same_as_before"]) == (True, first["digest"], True)
    assert job.snapshots[0] == job.snapshots[1]
    assert "the same as before, bit for bit" in typed("train", "--again", "--state", state.root).out
    job.seed = 1
    said = typed("train", "--again", "--state", state.root).out
    assert f"not {short(first['digest'])}, which came of the same facts" in said


def test_a_training_that_was_stopped_goes_on_with_its_snapshot(state: State, job: Job, arriving: Arriving) -> None:
    arriving.label("a")
    job.stopped = True
    assert typed("train", "--state", state.root).code == FAILED
    job.stopped = False
    assert trained(state)["trained"] is True
    assert job.snapshots[0] == job.snapshots[1]
