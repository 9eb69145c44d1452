"""A CSV: delimiter, encoding, thumbs or stars."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from feedback.intake.foreign import csv_table
from feedback.intake.foreign.converting import Conversion
from tests.feedback.intake.foreign.test_converting import events


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_delimiter_and_encoding_are_found_out(tmp_path: Path, delimiter: str, encoding: str) -> None:
    path = tmp_path / "table.csv"
    rows = [("prompt", "reply", "rating"), ("Où est le thé?", "À gauche.", "4"), ("Zwei?", "Größer.", "1")]
    path.write_bytes("\n".join(delimiter.join(row) for row in rows).encode(encoding))
    made = events(csv_table.read, path)
    assert [one["reply"] for one in made if one["event"] == "turn"] == ["À gauche.", "Größer."]
    assert [one["value"] for one in made if one["event"] == "rating"] == [4, 1], "with a 4 among them they are stars"


def test_rows_behind_one_that_cannot_be_read_still_come(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text(f"prompt,reply\none,two\nlong,{'x' * 1_100_000}\nthree,four\n")
    conversion = Conversion(time=1_767_268_800)
    made = [json.loads(line.raw)["reply"] for line in csv_table.read(path, conversion)]
    assert (made[0], made[-1], sum(conversion.lost.values())) == ("two", "four", 1)
