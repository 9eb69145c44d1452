"""Whether there is room on a disk, and whether an error says that there is none."""

from __future__ import annotations

import errno
import math
import sqlite3
from pathlib import Path

import pytest

from feedback import disk


@pytest.mark.parametrize(
    ("error", "full"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), True),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), True),
        (sqlite3.OperationalError("database or disk is full"), True),
        (Exception("I/O error: No space left on device (os error 28)"), True),
        (sqlite3.OperationalError("database is locked"), False),
        (OSError(errno.ENOENT, "No such file or directory"), False),
    ],
)
def test_a_full_disk_is_known_however_it_is_told(error: Exception, full: bool) -> None:
    assert disk.is_full(error) == full


def test_the_room_left_is_told_and_unknown_where_there_is_nothing(tmp_path: Path) -> None:
    assert 0 < disk.free_bytes(tmp_path) < disk.size_bytes(tmp_path)
    assert math.isnan(disk.free_bytes(tmp_path / "gone"))


def test_what_needs_room_is_refused_as_by_a_full_disk_before_the_last_of_it_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk.make_sure_of_room(tmp_path)
    monkeypatch.setattr(disk, "free_bytes", lambda _: disk.RESERVE_BYTES - 1)
    with pytest.raises(OSError, match="No space left") as refused:
        disk.make_sure_of_room(tmp_path)
    assert disk.is_full(refused.value)
