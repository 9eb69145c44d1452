"""`trimtab judge`, and what replay and import ask before they ask the judge."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.cli import common
from feedback.facts.reader import Facts
from feedback.records import Verdict
from tests.deploy.cli.test_common import document
from tests.deploy.cli.test_import_ import OPENAI
from tests.deploy.cli.typed import typed
from tests.deploy.replay.test_run import dump, event, rating, write
from tests.judge_server import JudgeServer, judge_server, scores

PRICED = "usd_per_million_prompt_tokens = 1\nusd_per_million_completion_tokens = 10"


@pytest.fixture
def server() -> Iterator[JudgeServer]:
    with judge_server(scores()) as server:
        yield server


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "e.jsonl", dump(*(event(n) for n in range(5)), rating(1)))
    return tmp_path


def configured(folder: Path, server: JudgeServer, prices: str = PRICED) -> None:
    (folder / "trimtab.toml").write_text(f'[judge]\nbase_url = "{server.url}"\nmodel = "judge"\n{prices}')


def replayed(*words: str) -> tuple[str, str]:
    code, out, error = typed("replay", "e.jsonl", "--no-train", "--state", "s", *words)
    assert code == 0, error
    return out, error


def test_a_replay_shows_what_the_judge_will_come_to_and_asks_only_with_yes(here: Path, server: JudgeServer) -> None:
    configured(here, server)
    out, error = replayed()
    assert "questions  4 for the judge; 4 calls" in error
    assert "money      about 0." in error
    assert "--yes asks the judge" in error
    assert "4 no_judge" in out
    assert server.asked == []
    told = document(here / "s", "judge", "estimate")
    assert (told["questions"], told["calls"], told["not_asked_because"]) == (4, 4, None)
    assert 0 < told["usd"] < told["most_usd"] < told["budget_left_usd"]
    assert server.asked == []
    out, error = replayed("--yes")
    assert "4 judged" in out
    assert len(server.asked) == 4
    assert "the judge has nothing to be asked" in typed("judge", "estimate", "--state", "s").out
    assert "questions" not in replayed("--yes")[1]


def test_a_judge_that_is_free_is_asked_after_its_estimate_was_shown(here: Path, server: JudgeServer) -> None:
    configured(here, server, "free = true")
    out, error = replayed()
    assert "money      nothing" in error
    assert "4 judged" in out


@pytest.mark.parametrize(("typed_in", "judged"), [("y\n", 4), ("n\n", 0), ("\n", 0)])
def test_whoever_sits_before_a_terminal_is_asked(
    here: Path, server: JudgeServer, monkeypatch: pytest.MonkeyPatch, typed_in: str, judged: int
) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    configured(here, server)
    monkeypatch.setattr("sys.stdin", Terminal(typed_in))
    monkeypatch.setattr(common.stderr, "_force_terminal", True)
    _, error = replayed()
    assert "Ask the judge?" in error
    assert len(server.asked) == judged


def test_a_judge_without_a_price_is_not_asked_whatever_is_typed(here: Path, server: JudgeServer) -> None:
    configured(here, server, "")
    replayed("--yes")
    out = typed("judge", "estimate", "--state", "s").out
    assert "money      unknown" in out
    assert "nobody knows what it costs" in out
    assert document(here / "s", "judge", "estimate")["usd"] is None
    assert server.asked == []


def test_more_than_the_budget_is_said(here: Path, server: JudgeServer) -> None:
    configured(here, server, f"{PRICED}\nusd_per_hour = 0.001")
    replayed()
    assert "0.0010 USD are left for this hour and day" in typed("judge", "estimate", "--state", "s").out


def test_an_import_is_judged_with_yes_also_later(here: Path, server: JudgeServer) -> None:
    configured(here, server)
    words = ("import", *OPENAI, "--state", "s", "--json")
    assert (json.loads(typed(*words).out)["taken"]["turns"], server.asked) == (4, [])
    assert json.loads(typed(*words, "--yes").out)["taken"]["turns"] == 0
    assert len(server.asked) > 0
    assert all(isinstance(verdict, Verdict) for verdict in Facts(here / "s" / "facts").verdicts())
