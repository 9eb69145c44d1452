"""From facts to what the schedule is asked: which labels are new."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from deploy.control.store import Control
from deploy.settings import Settings
from deploy.state import State, open_state
from deploy.training.train import ABANDONED_S, Sealed, _clear_abandoned, seal_now, since_last, since_sealed
from feedback.dataset import snapshot
from feedback.facts.reader import Facts
from feedback.facts.tables import Batch, Row
from feedback.facts.writer import FactsWriter
from tests.fakes import CLOCK
from tests.feedback.builders import AS_OF_US, rating, turn

AHEAD_US = 1_000 * 86_400_000_000
SETTINGS = Settings()


class Arriving:
    """Labels that come in: each is a fact when this returns."""

    def __init__(self, state: State) -> None:
        self._writer, self._next = FactsWriter(state.facts, lambda topic: "log", CLOCK), 0
        self._writer.commit([Batch("turns.served", 0, (Row(turn("t1"), "h", "d", 0, AS_OF_US),), 1)])

    def label(self, name: str, received_at_us: int = AS_OF_US) -> None:
        row = Row(rating(name, "t1", "thumbs", True), "h", "d", self._next, received_at_us)
        self._next += 1
        self._writer.commit([Batch("ratings.given", 0, (row,), self._next)])


@pytest.fixture
def state(tmp_path: Path) -> State:
    return open_state(tmp_path / "state")


@pytest.fixture
def arriving(state: State) -> Arriving:
    return Arriving(state)


def trained(control: Control, sealed: Sealed, at_us: int = AS_OF_US) -> None:
    control.trainings.end(control.trainings.start("r", at_us, sealed.name, sealed.positions), "done", at_us)


def new_labels(state: State, control: Control) -> int:
    return since_last(state, control, AS_OF_US).new_human_labels


def test_a_label_that_arrives_while_a_snapshot_is_sealed_is_in_it_or_new_to_the_next(
    state: State, arriving: Arriving, control: Control, monkeypatch: pytest.MonkeyPatch
) -> None:
    arriving.label("before")
    seal = snapshot.seal

    def slowly(facts: Any, *arguments: Any) -> Any:
        arriving.label("before it is read")
        made = seal(facts, *arguments)
        arriving.label("after it was read")
        return made

    monkeypatch.setattr(snapshot, "seal", slowly)
    sealed = seal_now(state, SETTINGS, AS_OF_US)
    arriving.label("before the training began")
    trained(control, sealed, at_us=AS_OF_US + 10)
    assert sum(sealed.counts.ratings.values()) == 1
    assert new_labels(state, control) == 3
    monkeypatch.undo()
    trained(control, seal_now(state, SETTINGS, AS_OF_US))
    assert new_labels(state, control) == 0


def test_before_the_first_training_every_label_is_new(state: State, arriving: Arriving, control: Control) -> None:
    arriving.label("a")
    arriving.label("a")
    arriving.label("b")
    since = since_last(state, control, AS_OF_US)
    assert (since.new_human_labels, since.labels, since.last_started_us, since.rejected) == (2, 2, None, None)


def test_a_training_that_failed_has_used_no_label_up(state: State, arriving: Arriving, control: Control) -> None:
    arriving.label("a")
    sealed = seal_now(state, SETTINGS, AS_OF_US)
    control.trainings.end(control.trainings.start("r", 1, sealed.name, sealed.positions), "failed", 2)
    assert new_labels(state, control) == 1


def test_a_training_of_an_older_version_counts_by_time(state: State, arriving: Arriving, control: Control) -> None:
    arriving.label("a", received_at_us=AS_OF_US)
    arriving.label("b", received_at_us=AS_OF_US + 10)
    control.trainings.end(control.trainings.start("r", AS_OF_US + 5), "done", AS_OF_US + 6)
    assert new_labels(state, control) == 1


def test_a_no_counts_until_a_training_begins(state: State, arriving: Arriving, control: Control) -> None:
    arriving.label("a")
    request = control.trainings.request("why", 1, seal_now(state, SETTINGS, AS_OF_US).positions)
    assert since_last(state, control, AS_OF_US).rejected is None
    control.trainings.answer(request.name, "rejected", "ada", "no", 5)
    arriving.label("b")
    no = since_last(state, control, AS_OF_US).rejected
    assert no is not None
    assert (no.at_us, no.new_human_labels, no.new_verdicts) == (5, 1, 0)
    control.trainings.start("by hand", 6)
    assert since_last(state, control, AS_OF_US).rejected is None


def test_a_no_counts_although_the_last_training_began_while_the_clock_was_ahead(
    state: State, arriving: Arriving, control: Control
) -> None:
    arriving.label("a")
    control.trainings.start("by hand", AS_OF_US + AHEAD_US)
    request = control.trainings.request("why", AS_OF_US, seal_now(state, SETTINGS, AS_OF_US).positions)
    control.trainings.answer(request.name, "rejected", "ada", "no", AS_OF_US)
    no = since_last(state, control, AS_OF_US).rejected
    assert no is not None
    assert no.at_us == AS_OF_US


def test_what_was_sealed_while_the_clock_was_ahead_holds_the_next_seal_up_no_longer(
    state: State, arriving: Arriving
) -> None:
    arriving.label("a")
    manifests = [seal_now(state, SETTINGS, at_us).manifest for at_us in (AS_OF_US, AS_OF_US + AHEAD_US)]
    with Facts(state.facts).pinned() as facts:
        assert since_sealed(facts, manifests, AS_OF_US).last_started_us == AS_OF_US
        assert since_sealed(facts, manifests[1:], AS_OF_US).last_started_us is None
        assert since_sealed(facts, manifests, AS_OF_US + AHEAD_US).last_started_us == AS_OF_US + AHEAD_US


def test_checkpoints_of_a_clock_that_was_ahead_are_kept_for_a_week_from_now(state: State) -> None:
    folder = state.work / "under way"
    folder.mkdir(parents=True)
    ahead_s = (AS_OF_US + AHEAD_US) / 1e6
    os.utime(folder, (ahead_s, ahead_s))
    _clear_abandoned(state.work, AS_OF_US)
    _clear_abandoned(state.work, AS_OF_US + round((ABANDONED_S - 1) * 1e6))
    assert folder.exists()
    _clear_abandoned(state.work, AS_OF_US + round((ABANDONED_S + 1) * 1e6))
    assert not folder.exists()
