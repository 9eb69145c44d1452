"""`trimtab rollout plan`: a table for a person, a document for a program, a sentence where nothing can be compared."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from deploy.cli.rollout_plan import MOST_PER_DAY
from deploy.state import open_state
from tests.deploy.cli.test_common import exactly


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.chdir(tmp_path)
    return open_state(tmp_path / "state").root


def test_what_can_be_found_with_so_many_users_is_a_table(state: Path) -> None:
    code, out, _ = exactly(state, "rollout", "plan", "--per-day", "2000")
    assert code == 0
    assert "2,000 new users a day" in out
    assert "errors: a candidate that is as good is shown so by day " in out
    document = json.loads(exactly(state, "rollout", "plan", "--per-day", "2000", "--json")[1])
    assert [row["metric"] for row in document["guardrails"]] == ["errors", "dislikes"]
    assert "the rates are assumed: of fewer than 100 users is it known what became of them\n" in out
    assert document["rates_assumed"]


@pytest.mark.parametrize("many", ["0", "-1", "nan", "inf", "1e300", "9" * 30])
def test_so_many_users_as_nobody_has_are_refused(state: Path, many: str) -> None:
    code, out, error = exactly(state, "rollout", "plan", "--per-day", many)
    assert (code, out) == (2, "")
    assert "Invalid value for '--per-day'" in error


def test_a_plan_is_made_for_the_most_that_may_be_asked_for(state: Path) -> None:
    assert exactly(state, "rollout", "plan", "--per-day", str(MOST_PER_DAY))[0] == 0


def test_with_nobody_nothing_is_found(state: Path) -> None:
    code, out, _ = exactly(state, "rollout", "plan")
    assert (code, "never" in out, "can't be shown so with this traffic" in out) == (0, True, True)


def test_to_everybody_at_once_there_is_nothing_to_plan(state: Path) -> None:
    Path("trimtab.toml").write_text("[rollout]\nshares = [1.0]\n")
    code, _, error = exactly(state, "rollout", "plan")
    assert (code, "nobody is left to compare with" in error) == (1, True)
