"""Rubrics: versioned by what they say; a bad file is refused with the key at fault."""

from __future__ import annotations

from pathlib import Path

import pytest

from feedback.judge import rubric
from feedback.judge.rubric import RubricError

GOOD = 'name = "r"\ninstructions = "Judge."\n[[items]]\nname = "helpful"\ndescription = "It helps."\n'


def test_the_shipped_rubric_loads_and_has_the_named_items() -> None:
    assert [item.name for item in rubric.load().items] == ["helpful", "correct", "brand_tone", "safe"]


def test_the_version_is_of_what_is_said_not_how_it_is_written(tmp_path: Path) -> None:
    one, two, three = tmp_path / "1.toml", tmp_path / "2.toml", tmp_path / "3.toml"
    one.write_text(GOOD)
    two.write_text("# a comment\n" + GOOD)
    three.write_text(GOOD.replace("helps", "HELPS"))
    assert rubric.load(one).version == rubric.load(two).version != rubric.load(three).version


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("name = ", "not valid TOML"),
        (GOOD.replace("instructions", "instruction"), "instruction"),
        (GOOD.replace('"helpful"', '"Not A Name"'), "items"),
        (GOOD + 'weight = -1\n', "weight"),
        (GOOD + '[[items]]\nname = "helpful"\ndescription = "again"\n', "twice"),
        ('name = "r"\ninstructions = "x"\nitems = []\n', "items"),
    ],
)  # fmt: skip
def test_a_bad_rubric_is_refused_by_name(tmp_path: Path, text: str, named: str) -> None:
    path = tmp_path / "rubric.toml"
    path.write_text(text)
    with pytest.raises(RubricError, match=named):
        rubric.load(path)


def test_a_diff_says_what_changed(tmp_path: Path) -> None:
    one, two = tmp_path / "1.toml", tmp_path / "2.toml"
    one.write_text(GOOD)
    two.write_text(GOOD + 'weight = 2.0\n[[items]]\nname = "short"\ndescription = "It is short."\n')
    assert rubric.diff(rubric.load(one), rubric.load(two)) == ["item helpful: weight 1 became 2", "item short added"]
