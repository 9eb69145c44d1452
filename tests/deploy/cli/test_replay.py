"""`trimtab replay`, as it is typed: what it is asked to do is right, or one sentence says what is wrong."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.cli import replay as module
from deploy.cli.common import DONE, FAILED, REFUSED, USAGE
from deploy.errors import Failed
from deploy.rules.schedule import NOT_TRAINED
from deploy.state import State, open_state
from tests.deploy.cli.typed import sentence, typed
from tests.deploy.replay.test_run import dump, event, rating, write
from tests.fakes import CLOCK


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> State:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(module, "configure", lambda _: None)  # the logs of this process are pytest's
    return open_state(tmp_path / ".trimtab")


@pytest.fixture
def events(tmp_path: Path) -> Path:
    return write(tmp_path / "events.jsonl", dump(*map(event, range(3)), *map(rating, range(3))))


def replayed(state: State, *words: str | Path) -> Any:
    code, out, _ = typed("replay", "--no-train", "--json", "--state", state.root, *words)
    assert code == DONE
    return json.loads(out)


def test_a_second_replay_at_the_same_time_is_refused_with_the_process_named(state: State, events: Path) -> None:
    with state.lock("worker"):
        said = typed("replay", events, "--no-train", "--state", state.root)
    assert "already running (process" in sentence(said, REFUSED)


def test_a_file_without_an_event_is_one_sentence_that_says_where_to_look(state: State, tmp_path: Path) -> None:
    nothing = write(tmp_path / "nothing.jsonl", [b"{no json"])
    assert "trimtab dead-letters ls" in sentence(typed("replay", nothing, "--state", state.root), FAILED)
    assert typed("replay", tmp_path / "missing.jsonl", "--state", state.root).code == USAGE
    assert typed("replay", "--state", state.root).code == USAGE


def test_the_account_is_told_and_so_is_what_to_type_next(state: State, events: Path) -> None:
    code, out, _ = typed("replay", "--no-train", "--state", state.root, events)
    assert code == DONE
    assert out.splitlines()[-1].startswith("next: trimtab dataset show ")
    again = replayed(state, events)
    assert (again["turns"], again["duplicates"]) == (0, 6)


def test_with_an_engine_that_takes_no_adapters_it_stops_at_the_snapshot_and_says_so(state: State, events: Path) -> None:
    Path("trimtab.toml").write_text("[engine]\nkind = 'openai'\nurls = ['http://gpu-1:8000/v1']\nmodel = 'm'\n")
    code, out, _ = typed("replay", "--state", state.root, events)
    assert code == DONE
    assert NOT_TRAINED in out
    assert out.splitlines()[-1].startswith("next: trimtab dataset show ")
    code, out, _ = typed("replay", "--json", "--state", state.root, events)
    assert (code, "candidate" in json.loads(out)) == (DONE, False)


@pytest.mark.parametrize("moment", ["2026-01-01T12:00:02Z", "1970-01-01T00:00:00Z"])
def test_the_facts_are_sealed_as_of_the_moment_that_is_named(state: State, events: Path, moment: str) -> None:
    newest = replayed(state, events)
    assert replayed(state, "--as-of", moment, events)["dataset_hash"] != newest["dataset_hash"]


@pytest.mark.parametrize(
    ("moment", "code", "words"),
    [
        ("2999-01-01T00:00:00Z", FAILED, "lies in the future"),
        ("9999-12-31T23:59:59-23:59", FAILED, "lies in the future"),
        ("0001-01-01T00:00:00+23:59", FAILED, "lies before 1970"),
        ("2026-01-01T12:00:00", USAGE, "has no offset"),
        ("yesterday", USAGE, "--as-of"),
        ("", USAGE, "--as-of"),
    ],
)
def test_a_moment_that_cannot_be_is_told_as_it_was_typed_and_nothing_is_read(
    state: State, events: Path, moment: str, code: int, words: str
) -> None:
    said = typed("replay", "--as-of", moment, events, "--state", state.root)
    assert (said.code, said.out) == (code, "")
    assert (moment in said.error, words in said.error) == (True, True)
    assert not state.log.exists()
    assert not list(state.facts.iterdir())


@given(st.text() | st.datetimes(timezones=st.timezones()).map(lambda moment: moment.isoformat()))
def test_any_moment_is_one_between_1970_and_now_or_is_refused(text: str) -> None:
    now_us, at_us = CLOCK.now_us(), None
    with suppress(Failed, click.BadParameter):
        at_us = module._given(text, now_us)
    assert at_us is None or 0 <= at_us <= now_us
