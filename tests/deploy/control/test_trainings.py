"""Trainings: what was started and why, how it ended, and a person's yes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from deploy.control.store import Control
from deploy.errors import Failed, Refused


def test_a_training_keeps_its_reason_and_its_end(control: Control) -> None:
    number = control.trainings.start("200 new labels", 1)
    control.trainings.end(number, "done", 2, snapshot="s", candidate="c" * 64)
    (training,) = control.trainings.list()
    assert (training.reason, training.outcome, training.snapshot, training.candidate) == (
        "200 new labels",
        "done",
        "s",
        "c" * 64,
    )


def test_a_training_that_never_ended_was_stopped_when_the_next_begins(control: Control) -> None:
    control.trainings.start("one", 1, "s")
    control.trainings.start("two", 5)
    running, stopped = control.trainings.list()
    assert running.outcome is None
    assert (stopped.outcome, stopped.ended_at_us, stopped.snapshot) == ("stopped", 5, "s")


@pytest.mark.parametrize(
    ("outcomes", "failures"),
    [
        ([], 0),
        (["failed"], 1),
        (["failed", "failed"], 2),
        (["failed", "done"], 0),
        (["done", "failed", "stopped", "failed"], 2),
    ],
)
def test_failures_in_a_row_are_counted_back_to_the_last_success(
    control: Control, outcomes: list[str], failures: int
) -> None:
    for outcome in outcomes:
        control.trainings.end(control.trainings.start("r", 1), outcome, 2)  # type: ignore[arg-type]
    assert control.trainings.failures_in_a_row() == failures


def test_a_yes_is_good_for_one_training(control: Control) -> None:
    request = control.trainings.request("why", 1)
    assert control.trainings.request("why else", 2) == request
    assert not control.trainings.use_approval(3, 100)
    control.trainings.answer(request.name, "approved", "ada", "go", 3)
    assert control.trainings.open_request() is not None
    assert control.trainings.use_approval(4, 100)
    assert not control.trainings.use_approval(5, 100)
    assert control.trainings.open_request() is None
    assert control.trainings.request("again", 6).id != request.id


def test_a_yes_expires(control: Control) -> None:
    request = control.trainings.request("why", 1)
    control.trainings.answer(request.name, "approved", "ada", "go", 3)
    assert not control.trainings.use_approval(103, 100)


def test_a_request_is_answered_once(control: Control) -> None:
    request = control.trainings.request("why", 1)
    control.trainings.answer(request.name, "rejected", "ada", "no GPU hours left", 3)
    with pytest.raises(Refused, match="rejected by ada"):
        control.trainings.answer(request.name, "approved", "bob", "yes", 4)
    assert not control.trainings.use_approval(5, 100)


def test_a_training_keeps_how_far_its_snapshot_read(control: Control) -> None:
    assert control.trainings.last_done() is None
    for positions in ({"log/ratings.given/0": 7}, {"log/ratings.given/0": 9}, None):
        control.trainings.end(control.trainings.start("r", 1, "s", positions), "done", 2)
        done = control.trainings.last_done()
        assert done is not None
        assert done.positions == positions
    control.trainings.end(control.trainings.start("r", 1, "s", {}), "failed", 2)
    assert control.trainings.last_done() == done


def test_a_request_keeps_how_far_the_facts_went_when_it_was_last_looked_at_before_the_answer(control: Control) -> None:
    request = control.trainings.request("why", 1, {"a": 1})
    assert control.trainings.request("why", 2, {"a": 2}) == replace(request, positions={"a": 2})
    assert control.trainings.last_rejected() is None
    control.trainings.answer(request.name, "rejected", "ada", "no", 3)
    rejected = control.trainings.last_rejected()
    assert rejected is not None
    assert (rejected.id, rejected.answered_at_us, rejected.positions) == (request.id, 3, {"a": 2})
    approved = control.trainings.request("why", 4, {"a": 3})
    control.trainings.answer(approved.name, "approved", "ada", "yes", 5)
    assert control.trainings.request("why", 6, {"a": 4}).positions == {"a": 3}
    assert control.trainings.last_rejected() == rejected


@pytest.mark.parametrize("name", ["training-9", "training-", "training-²", "training-99999999999999999999", "x"])
def test_an_unknown_request_is_one_sentence(control: Control, name: str) -> None:
    with pytest.raises(Failed, match="no request"):
        control.trainings.answer(name, "approved", "ada", "r", 1)
