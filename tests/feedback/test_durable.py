import os
from pathlib import Path

import pytest

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
