"""Shared options before a command, and words that are nearly one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.cli.groups import shared_last
from tests.deploy.cli.typed import typed


@pytest.mark.parametrize(
    "words",
    [
        ["--config", "{}", "config", "check", "--json"],
        ["--json", "--config={}", "config", "check"],
        ["config", "--config", "{}", "--json", "check"],
        ["config", "check", "--config", "{}", "--json"],
    ],
)
def test_options_that_all_commands_share_stand_before_or_behind_them(words: list[str], tmp_path: Path) -> None:
    (tmp_path / "t.toml").write_text("[window]\nmax_per_user = 7\n")
    told = typed(*(word.format(tmp_path / "t.toml") for word in words))
    assert (told.code, json.loads(told.out)["changed"]) == (0, {"window.max_per_user": 7})


@pytest.mark.parametrize(
    ("words", "near"), [(["staus"], "status"), (["dataset", "shwo"], "show"), (["dead-leters"], "dead-letters")]
)
def test_a_mistyped_command_is_told_what_is_near(words: list[str], near: str) -> None:
    told = typed(*words)
    assert (told.code, f"Did you mean '{near}'?" in told.error) == (2, True)


def test_a_word_that_is_near_nothing_is_told_so() -> None:
    told = typed("xyzzy")
    assert (told.code, "Did you mean" in told.error) == (2, False)


def test_what_stands_behind_two_dashes_stays_last() -> None:
    assert shared_last(["--json", "show", "--", "--x"]) == ["show", "--json", "--", "--x"]


@given(
    st.lists(
        st.sampled_from(["--state", "--state=a", "--config", "--json", "--help", "status", "a", "--", "-v"]), max_size=7
    )
)
def test_no_word_is_lost_behind_a_command(words: list[str]) -> None:
    moved = shared_last(words)
    if moved and not moved[0].startswith("-"):
        assert sorted(moved) == sorted(words)
