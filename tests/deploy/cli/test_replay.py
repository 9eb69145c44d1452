"""`trimtab replay`, as it is typed: what it is asked to do is right, or one sentence says what is wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.cli import replay as module
from deploy.cli.common import DONE, FAILED, REFUSED, USAGE
from deploy.control.store import Control
from deploy.errors import Failed
from deploy.parts import operations
from deploy.rules.schedule import NOT_TRAINED
from deploy.settings import Settings
from deploy.state import State, open_state
from deploy.training.base import QUICK
from feedback.clock import Clock
from models.errors import JobFailed
from tests.deploy.candidates import make_candidate
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


@dataclass
class Trained:
    """Stands in for the training: what it was asked to train, and a candidate of it."""

    state: State
    settings: list[Settings] = field(default_factory=list)
    fetched: int = 0
    offline: bool = False

    def train(self, state: State, settings: Settings, control: Control, clock: Clock, *_: object) -> str:
        self.settings.append(settings)
        digest = make_candidate(state.candidates, len(self.settings), reward_model={"accuracy": None})
        operations(state, settings, control, clock).register(digest)
        return digest

    def install(self, state: Path, report: Callable[[int, int], None]) -> None:
        self.fetched += 1
        report(1, 88)
        if self.offline:
            raise JobFailed("SmolLM2 can't be fetched from the Python registry (no route): check the network")


@pytest.fixture
def trained(state: State, monkeypatch: pytest.MonkeyPatch) -> Trained:
    stand_in = Trained(state)
    monkeypatch.setattr(module, "train", stand_in.train)
    monkeypatch.setattr(module, "install_smollm2", stand_in.install)
    monkeypatch.setattr(module, "has_bf16", lambda: True)
    return stand_in


def taught(trained: Trained, events: Path, *words: str) -> tuple[str, str]:
    """The base that was trained on, and what was said on stderr."""
    said = typed("replay", "--json", "--state", trained.state.root, *words, events)
    assert said.code == DONE, said.error
    return trained.settings[-1].base.name, said.error


def test_a_replay_trains_smollm2_briefly_and_later_commands_go_by_it(
    trained: Trained, events: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base, said = taught(trained, events)
    assert (base, trained.fetched, trained.settings[0].reward.max_labels) == (
        "smollm2",
        1,
        QUICK["reward"]["max_labels"],
    )
    assert "Apache-2.0; 93 MB" in said
    monkeypatch.setattr(module, "has_bf16", lambda: False)
    assert taught(trained, events)[0] == "smollm2"
    assert "smollm2" in typed("engine", "check", "--state", trained.state.root).out


def test_where_smollm2_cannot_be_fetched_one_sentence_says_so_and_tiny_is_trained(
    trained: Trained, events: Path
) -> None:
    trained.offline = True
    base, said = taught(trained, events)
    (line,) = said.splitlines()
    assert (base, trained.settings[0].reward.max_labels) == ("tiny", Settings().reward.max_labels)
    assert line.startswith("going on with `tiny`, the small model for tests: SmolLM2 can't be fetched")
    trained.offline = False
    assert (taught(trained, events)[0], trained.fetched) == ("tiny", 1), "what has begun goes on as it began"
    assert taught(trained, events, "--base", "smollm2")[0] == "smollm2"
    assert taught(trained, events)[0] == "smollm2"


def test_tiny_can_be_asked_for_and_a_processor_without_bf16_gets_it_and_both_say_what_it_is_for(
    trained: Trained, events: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert taught(trained, events, "--base", "tiny") == ("tiny", "the base is `tiny`, the small model for tests\n")
    monkeypatch.setattr(module, "has_bf16", lambda: False)
    (trained.state.root / "bases" / "chosen.json").unlink()
    base, said = taught(trained, events)
    assert (base, trained.fetched, "has no bf16" in said) == ("tiny", 0, True)


def test_a_base_that_the_settings_name_is_taken_in_full_and_another_is_refused(trained: Trained, events: Path) -> None:
    Path("trimtab.toml").write_text("[base]\nname = 'smollm2'\n")
    assert taught(trained, events) == ("smollm2", "")
    assert trained.settings[0].reward.max_labels == Settings().reward.max_labels
    said = typed("replay", "--base", "tiny", events, "--state", trained.state.root)
    assert (said.code, "base.name is 'smollm2'" in said.error) == (USAGE, True)
    Path("trimtab.toml").unlink()
    assert not (trained.state.root / "bases" / "chosen.json").exists()
