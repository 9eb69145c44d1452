import errno
import math
import os
import sqlite3
from pathlib import Path

import pytest

from feedback import durable
from feedback.durable import canonical, sha256_file, staged, write_json


def test_a_directory_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), staged(tmp_path) as fresh:
        (fresh.path / "no such folder" / "file").write_text("half")
    assert list(tmp_path.iterdir()) == []
    with staged(tmp_path) as fresh:
        (fresh.path / "file").write_text("all")
        path = fresh.publish("name", "_DONE")
    assert sorted(p.name for p in path.iterdir()) == ["_DONE", "file"]
    assert list(tmp_path.iterdir()) == [path]


def test_what_was_published_first_stands(tmp_path: Path) -> None:
    for text in ("first", "second"):
        with staged(tmp_path) as fresh:
            (fresh.path / "file").write_text(text)
            fresh.publish("name")
    assert (tmp_path / "name" / "file").read_text() == "first"


def test_what_a_killed_process_left_is_removed_after_an_hour(tmp_path: Path) -> None:
    old, young = tmp_path / ".staged-old", tmp_path / ".staged-young"
    old.mkdir()
    young.mkdir()
    os.utime(old, (0, 0))
    with staged(tmp_path):
        pass
    assert list(tmp_path.iterdir()) == [young]


def test_equal_values_have_one_canonical_text() -> None:
    assert canonical({"b": 1, "a": "é"}) == canonical({"a": "é", "b": 1}) == '{"a":"é","b":1}'.encode()


def test_json_is_replaced_in_one_step(tmp_path: Path) -> None:
    write_json(tmp_path / "x.json", {"a": 1})
    first = sha256_file(tmp_path / "x.json")
    write_json(tmp_path / "x.json", {"a": 2})
    assert sha256_file(tmp_path / "x.json") != first
    assert [p.name for p in tmp_path.iterdir()] == ["x.json"]


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
    assert durable.is_full(error) == full


def test_the_room_left_is_told_and_unknown_where_there_is_nothing(tmp_path: Path) -> None:
    assert 0 < durable.free_bytes(tmp_path) < durable.size_bytes(tmp_path)
    assert math.isnan(durable.free_bytes(tmp_path / "gone"))


def test_what_needs_room_is_refused_as_by_a_full_disk_before_the_last_of_it_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    durable.make_sure_of_room(tmp_path)
    monkeypatch.setattr(durable, "free_bytes", lambda _: durable.RESERVE_BYTES - 1)
    with pytest.raises(OSError, match="No space left") as refused:
        durable.make_sure_of_room(tmp_path)
    assert durable.is_full(refused.value)
