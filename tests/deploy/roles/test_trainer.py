"""When the trainer asks, and when it leaves people in peace."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from deploy.control.store import Control
from deploy.roles.role import Role
from deploy.roles.trainer import _due, _train_now
from deploy.serving_settings import EngineSettings
from deploy.settings import ApproveSettings, Settings, TrainSettings
from deploy.state import open_state
from deploy.training.job import Stopped
from feedback.dataset import snapshot
from feedback.settings import WindowSettings
from models.spec import TrainingSpec
from tests.deploy.training.test_train import Arriving
from tests.fakes import ManualClock

DAY_S = 86_400
SETTINGS = Settings(
    train=TrainSettings(min_labels=1, min_new_human_labels=3, every_s=DAY_S),
    approve=ApproveSettings(before=("train", "rollout")),
)


@pytest.fixture
def role(tmp_path: Path, control: Control, clock: ManualClock) -> Role:
    return Role(open_state(tmp_path / "state"), SETTINGS, control, clock)


@pytest.fixture
def arriving(role: Role) -> Arriving:
    return Arriving(role.state)


def asked(role: Role) -> str | None:
    """The request that is open after the trainer looked."""
    assert _due(role) is None
    request = role.control.trainings.open_request()
    return request.name if request else None


def test_after_a_no_nobody_is_asked_again_before_enough_is_new(
    role: Role, arriving: Arriving, clock: ManualClock
) -> None:
    for name in ("a", "b", "c"):
        arriving.label(name)
    assert asked(role) == "training-1"
    arriving.label("d")
    assert asked(role) == "training-1"
    role.control.trainings.answer("training-1", "rejected", "ada", "no", clock.now_us())
    for name in ("d", "e", "f"):
        assert asked(role) is None
        arriving.label(name)
    assert asked(role) is None, "d was there before the answer"
    arriving.label("g")
    assert asked(role) == "training-2"
    role.control.trainings.answer("training-2", "rejected", "ada", "no", clock.now_us())
    assert asked(role) is None


def test_after_a_no_and_a_day_somebody_is_asked_again(role: Role, arriving: Arriving, clock: ManualClock) -> None:
    for name in ("a", "b", "c"):
        arriving.label(name)
    assert asked(role) == "training-1"
    role.control.trainings.answer("training-1", "rejected", "ada", "no", clock.now_us())
    clock.set_forward(DAY_S - 1)
    assert asked(role) is None
    clock.set_forward(1)
    assert asked(role) == "training-2"
    role.control.trainings.answer("training-2", "approved", "ada", "yes", clock.now_us())
    assert _due(role) == "24.0 h since a person said no (rule: 24.0 h)"


def test_with_an_engine_that_takes_no_adapters_snapshots_are_sealed_and_nothing_is_trained(
    tmp_path: Path, control: Control, clock: ManualClock
) -> None:
    engine = EngineSettings(kind="openai", urls=("http://gpu-1:8000/v1",), model="m")
    train = TrainSettings(min_labels=1, min_new_human_labels=3, every_s=DAY_S)
    role = Role(open_state(tmp_path / "state"), Settings(train=train, engine=engine), control, clock)
    arriving = Arriving(role.state)

    def sealed() -> int:
        """How many snapshots there are after the trainer looked."""
        assert _due(role) is None
        return len(snapshot.list_snapshots(role.state.snapshots))

    assert sealed() == 0
    arriving.label("a", clock.now_us())
    assert [sealed(), sealed()] == [1, 1]
    clock.set_forward(60)
    for name in ("b", "c"):
        arriving.label(name, clock.now_us())
    assert sealed() == 1, "a day has not passed, and two are not enough"
    arriving.label("d", clock.now_us())
    clock.set_forward(60)
    assert [sealed(), sealed()] == [2, 2]
    assert control.trainings.list(1) == []


def test_a_training_that_was_stopped_goes_on_with_its_snapshot_where_nothing_has_come_in(
    role: Role, arriving: Arriving, clock: ManualClock
) -> None:
    window = WindowSettings(max_age_s=1_000_000_000)  # the facts of tests are years old
    role.settings = role.settings.model_copy(update={"window": window})
    arriving.label("a", clock.now_us())
    asked_for: list[str] = []

    def stopped(spec: TrainingSpec, *_: object) -> Path:
        asked_for.append(Path(spec.snapshot).name)
        raise Stopped("the training was stopped")

    for new in ("", "", "d"):
        if new:
            arriving.label(new, clock.now_us())
        clock.set_forward(60)
        _train_now(role, "due", threading.Event(), stopped)
    first, again, other = asked_for
    assert (first == again, again == other) == (True, False)
