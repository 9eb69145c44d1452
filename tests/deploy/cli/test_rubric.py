"""`trimtab rubric`, as it is typed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from deploy.cli.common import DONE, FAILED, USAGE
from feedback.judge import rubric
from tests.deploy.cli.typed import sentence, typed

MINE = 'name = "mine"\ninstructions = "Judge [bold]."\nitems = [{name = "correct", description = "It is [right]."}]\n'


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    path = tmp_path / "mine.toml"
    path.write_text(MINE)
    return path


def test_the_rubric_that_is_shown_is_the_one_that_is_configured(
    tmp_path: Path, mine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shipped = rubric.load()
    assert json.loads(typed("rubric", "show", "--json").out)["version"] == shipped.version
    assert all(item.name in typed("rubric", "show").out for item in shipped.items)
    Path("trimtab.toml").write_text(f"[judge]\nrubric = '{mine}'\n")
    code, out, _ = typed("rubric", "show")
    assert (code, out.splitlines()[0]) == (DONE, f"mine, version {rubric.load(mine).version}")
    assert "Judge [bold]." in out
    assert "correct (weight 1): It is [right]." in out


def test_a_rubric_that_is_right_is_told_with_its_version(mine: Path) -> None:
    code, out, _ = typed("rubric", "check", mine)
    assert (code, rubric.load(mine).version in out.replace("\n", "")) == (DONE, True)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name = ", "not valid TOML"),
        ("\udcff", "not valid TOML"),
        (MINE.replace("correct", "Correct!"), "items[0].name"),
        (MINE.replace("name =", "nom =", 1), "nom"),
        ("", "name"),
    ],
)
@pytest.mark.parametrize("command", ["check", "diff"])
def test_a_rubric_that_is_wrong_is_one_sentence_with_the_file_and_what_is_wrong(
    mine: Path, text: str, said: str, command: str
) -> None:
    wrong = mine.with_name("wrong.toml")
    wrong.write_text(text, errors="surrogateescape")
    found = sentence(typed("rubric", command, *([mine] if command == "diff" else []), wrong), FAILED)
    assert str(wrong) in found
    assert said in found


def test_what_changed_is_told_and_so_is_that_nothing_did(mine: Path) -> None:
    other = mine.with_name("other.toml")
    other.write_text(MINE.replace("It is [right].", "It is [true]."))
    assert typed("rubric", "diff", mine, mine).out == "nothing changed\n"
    assert "correct" in typed("rubric", "diff", mine, other).out
    assert typed("rubric", "diff", mine, mine.with_name("missing.toml")).code == USAGE
