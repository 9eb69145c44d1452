"""How far a training is, for whoever looks from another process."""

from __future__ import annotations

from pathlib import Path

from deploy.training.noting import Noting, note_of, noted
from tests.fakes import ManualClock


def test_what_is_told_is_passed_on_and_noted_once_a_second(tmp_path: Path) -> None:
    clock, told = ManualClock(), list[tuple[str, int, int]]()
    began_us = clock.now_us()
    noting = Noting(tmp_path, 7, {"base": 3.0}, lambda *said: told.append(said), clock)
    for step, seconds in ((0, 0), (0, 10), (1, 0.4), (2, 4)):
        clock.set_forward(seconds)
        noting("reward", step, 20 if seconds else 0)
    found = noted(tmp_path, 7)
    assert found is not None
    assert (found.phase, found.done, found.total, found.first_done) == ("reward", 2, 20, 0)
    assert (found.phase_began_us, found.first_at_us) == (began_us, began_us + 10_000_000)
    assert found.earlier == {"base": 3.0}
    noting("reward", 3, 20)
    assert noted(tmp_path, 7) == found
    noting("samples", 0, 0)
    assert (later := noted(tmp_path, 7)) is not None
    assert later.phase == "samples"
    assert [step for _, step, _ in told] == [0, 0, 1, 2, 3, 0]


def test_of_another_training_or_of_none_nothing_is_noted(tmp_path: Path) -> None:
    assert noted(tmp_path, 7) is None
    Noting(tmp_path, 6, {}, lambda *_: None, ManualClock())("base", 0, 0)
    assert noted(tmp_path, 7) is None
    note_of(tmp_path).write_text("{")
    assert noted(tmp_path, 6) is None


def test_a_disk_that_takes_no_note_stops_no_training(tmp_path: Path) -> None:
    Noting(tmp_path / "gone", 1, {}, lambda *_: None, ManualClock())("base", 0, 0)
