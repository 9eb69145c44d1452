"""A CSV: delimiter, encoding, thumbs or stars."""

from __future__ import annotations

from pathlib import Path

import pytest

from feedback.intake.foreign import csv_table
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
