"""`trimtab import`, as it is typed, on one file of each format."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.deploy.cli.test_common import document as answered
from tests.deploy.cli.test_common import exactly, typed

FILES = Path(__file__).parents[2] / "feedback" / "intake" / "foreign"
OPENAI = (str(FILES / "openai.jsonl"), "--format", "openai", "--time", "2026-01-01T00:00:00Z")
WEBUI = (str(FILES / "open-webui.json"), "--format", "open-webui")
TABLE = (
    str(FILES / "ratings.csv"),
    "--format",
    "csv",
    "--map",
    "prompt=question",
    "--map",
    "reply=answer",
    "--map",
    "rating=thumb",
)


def counts(lost: dict[str, Any]) -> list[int]:
    return [one["count"] for one in lost.values()]


@pytest.mark.parametrize(
    ("words", "events", "lost"),
    [
        (OPENAI, {"turn": 4, "pick": 1}, 3),
        (WEBUI, {"turn": 4, "thumbs": 3, "comment": 1, "pick": 1}, 1),
        (TABLE, {"turn": 2, "thumbs": 1, "comment": 1}, 2),
    ],
    ids=["openai", "open-webui", "csv"],
)
def test_a_file_is_accounted_for_and_importing_it_twice_adds_nothing(
    tmp_path: Path, words: tuple[str, ...], events: dict[str, int], lost: int
) -> None:
    state = tmp_path / "state"
    dry = answered(state, "import", *words, "--dry-run")
    assert (dry["events"], sum(counts(dry["lost"])), dry["refused"]) == (events, lost, {})
    assert not state.exists(), "a dry run writes nothing"
    first = answered(state, "import", *words)
    assert (first["events"], first["lost"]) == (dry["events"], dry["lost"])
    assert first["taken"]["turns"] == events["turn"]
    assert sum(first["taken"]["ratings"].values()) == sum(events.values()) - events["turn"]
    again = answered(state, "import", *words)["taken"]
    assert (again["turns"], again["ratings"], again["duplicates"]) == (0, {}, sum(events.values()))


def test_without_a_time_it_says_what_to_pass(tmp_path: Path) -> None:
    dry = answered(tmp_path / "s", "import", *OPENAI[:3], "--dry-run")
    (told,) = [told for reason, told in dry["lost"].items() if "--time" in reason]
    assert told["count"] == 4
    assert told["first"][0] == "line 1"


def test_a_column_that_is_missing_is_named_beside_those_there_are(tmp_path: Path) -> None:
    code, out, error = typed(tmp_path / "s", "import", *TABLE[:3])
    assert (code, out, (tmp_path / "s").exists()) == (1, "", False)
    assert "no column for prompt, reply" in error
    assert "'question', 'answer', 'thumb'" in error


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b'{"event": "turn", "event_id": "e"}', "trimtab replay"),
        (b'{"conversations": [{"from": "human", "value": "hi"}]}', "ShareGPT"),
        (b"PK\x03\x04rest", "a zip"),
        (b"PAR1rest", "parquet"),
        (b'{"id": "c", "chat": {"history": {"messages": {}}}}', "--format open-webui"),
    ],
)
def test_another_shape_is_told_what_it_looks_like(tmp_path: Path, content: bytes, sentence: str) -> None:
    file = tmp_path / "given.jsonl"
    file.write_bytes(content)
    code, out, error = typed(tmp_path / "s", "import", str(file), "--format", "openai")
    assert (code, out, (tmp_path / "s").exists()) == (1, "", False)
    assert "looks like" in error
    assert sentence in error


def test_a_mapping_that_is_none_is_wrong_usage(tmp_path: Path) -> None:
    code, _, error = exactly(tmp_path / "s", "import", *TABLE[:3], "--map", "colour=x")
    assert (code, "--map" in error) == (2, True)
