"""Whether a disk takes what begins now."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from deploy.gateway.room import AGAIN_S, SCRATCH, Room
from feedback.durable import RESERVE_BYTES
from tests.fakes import CLOCK, ManualClock, until


@pytest.mark.parametrize(
    ("left", "missing"),
    [(RESERVE_BYTES, None), (RESERVE_BYTES - 1, "the disk is nearly full: 64 MB are left"), (math.nan, None)],
)
def test_a_disk_with_little_room_has_none_for_what_begins(tmp_path: Path, left: float, missing: str | None) -> None:
    said = Room(tmp_path, CLOCK, lambda: left).missing
    assert (said is None) if missing is None else (said or "").startswith(missing)


async def test_after_a_failure_there_is_no_room_until_something_can_be_written(tmp_path: Path) -> None:
    clock = ManualClock()
    room, scratch = Room(tmp_path, clock, lambda: math.inf), tmp_path / SCRATCH
    scratch.mkdir()  # nothing can be written there
    for _ in range(2):
        room.failed()
    for _ in range(2):
        await until(lambda: clock.waiting == 1)
        assert "could not be written" in (room.missing or "")
        await clock.advance(AGAIN_S)
    await until(lambda: clock.waiting == 1)
    scratch.rmdir()
    await clock.advance(AGAIN_S)
    await until(lambda: room.missing is None)
    room.failed()
    await room.close()
