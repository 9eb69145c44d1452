"""How far the training under way is, noted beside its work for whoever looks: `trimtab status` is another process."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from deploy.training.job import Progress
from feedback.clock import Clock
from feedback.durable import write_json

EVERY_S = 1.0


class Noted(Struct, frozen=True):
    """How far it is: `done` of `total` units of its phase, which began with `first_done` at `first_at_us`."""

    training: int
    phase: str
    done: int
    total: int
    at_us: int
    first_done: int
    first_at_us: int
    phase_began_us: int
    earlier: Mapping[str, float]
    """Seconds that each phase took in an earlier training like this; empty where there was none."""


class Noting:
    """A `Progress` that notes what it is told, at most once a second in a phase, and passes it on."""

    def __init__(self, work: Path, training: int, earlier: Mapping[str, float], then: Progress, clock: Clock) -> None:
        self._path, self._training, self._earlier = note_of(work), training, earlier
        self._then, self._clock = then, clock
        self._last: Noted | None = None
        self._written_us = 0

    def __call__(self, phase: str, done: int, total: int) -> None:
        self._then(phase, done, total)
        now_us, last = self._clock.now_us(), self._last
        if last is None or last.phase != phase:
            last = Noted(self._training, phase, done, total, now_us, done, now_us, now_us, self._earlier)
            self._written_us = 0
        elif not last.total:  # what came before the first unit was loading
            last = replace(last, first_done=done, first_at_us=now_us)
        self._last = replace(last, done=done, total=total, at_us=now_us)
        if abs(now_us - self._written_us) >= EVERY_S * 1e6 or done == total:
            self._written_us = now_us
            with suppress(OSError):  # a note is not worth a training
                write_json(self._path, msgspec.to_builtins(self._last))


def note_of(work: Path) -> Path:
    """Where it stands."""
    return work / "progress.json"


def noted(work: Path, training: int) -> Noted | None:
    """What is noted of this training; None where nothing is."""
    try:
        found = msgspec.json.decode(note_of(work).read_bytes(), type=Noted)
    except (OSError, msgspec.DecodeError):
        return None
    return found if found.training == training else None
