"""The rules of the loop on a real model, and the loop itself on the small one for tests, beside a real vLLM."""

from __future__ import annotations

import gzip
import json
import os
import re
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from deploy.settings import load_settings
from deploy.training.base import quickly
from models.bases import SMOLLM2
from tests.deploy.commands import SAMPLE
from tests.engine.server import need
from tests.real.customers import TURNS_EACH, Question, Rated, arms, fresh_orders, names, questions
from tests.real.loop import ENGINE, TRAINING, USERS, main, settings_of
from tests.real.phases import Phases
from tests.real.team import LoopFailed


def test_customers_ask_of_orders_that_the_log_does_not_have_each_in_words_of_its_own() -> None:
    log = gzip.decompress(SAMPLE.read_bytes()).decode()
    asked = [one for each in questions(USERS, fresh_orders(log)) for one in each]
    assert not set(re.findall(r"K-\d+", log)) & {one.order for one in asked}
    assert len({one.order for one in asked}) == len({one.text for one in asked}) == len(asked)
    assert len({one.text.replace(one.order, "") for one in asked}) == len(asked)
    assert all(one.order in one.text for one in asked)


@pytest.mark.parametrize(
    ("reply", "named"),
    [
        ("Order K-101 has left. [K-101]", True),
        ("K-101.", True),
        ("Order K-1012 has left.", False),
        ("Order K-10 has left.", False),
        ("Order 101 has left.", False),
        ("OK-101", False),
        ("", False),
    ],
)
def test_a_thumb_is_up_for_a_reply_that_names_the_very_number(reply: str, named: bool) -> None:
    assert names(reply, "K-101") == named


def test_an_arms_interval_counts_its_customers_not_their_turns() -> None:
    rated = [_rated(user, by, up) for user, by in [("a", "base"), ("b", "3f2a")] for up in [True, True, False]]
    base, candidate = arms([*rated, _rated("c", "3f2a", True)])
    assert (base.by, base.customers, base.turns, base.up) == ("base", 1, 3, 2)
    assert (candidate.by, candidate.customers, candidate.turns, candidate.up) == ("3f2a", 2, 4, 3)
    assert base.interval[1] - base.interval[0] > 0.8
    assert base.tokens_per_s == 5.0


def _rated(user: str, by: str, up: bool) -> Rated:
    return Rated(Question(user, "K-101", "?"), "t", by, "K-101" if up else "no", tokens=10, seconds=2.0)


def test_what_fails_is_known_by_its_phase() -> None:
    said: list[str] = []
    told = Phases(said.append, os.getpid())
    with told.phase("one"):
        pass
    with pytest.raises(KeyError), told.phase("two"):
        raise KeyError
    assert ([phase.name for phase in told.over], told.where) == (["one"], "phase 2, two")


def no_base(_: object) -> None:
    raise LoopFailed("no base")


def asked_to_stop(_: object) -> None:
    os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.parametrize(
    ("happens", "code", "said"),
    [(no_base, 1, "failed in phase 2, base: no base"), (asked_to_stop, 130, "stopped in phase 2, base;")],
)
def test_a_run_that_fails_or_is_stopped_says_where_and_keeps_its_logs(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path,
    happens: Callable[[object], None], code: int, said: str,
) -> None:  # fmt: skip
    monkeypatch.setattr("tempfile.tempdir", f"{tmp_path}")
    monkeypatch.setattr("tests.real.loop.PYTHON", Path(sys.executable))
    monkeypatch.setattr("tests.real.loop.Team.run", lambda *_: None)
    monkeypatch.setattr("tests.real.loop.Run.bring_base", happens)
    assert main(["--base", "tiny"]) == code
    out = capfd.readouterr().out
    assert said in out
    assert (Path(out.split()[-1]) / "trimtab.toml").exists()


@pytest.mark.parametrize("base", TRAINING)
def test_its_settings_are_those_of_a_short_training_and_the_engine_can_be_added(base: str, tmp_path: Path) -> None:
    config = tmp_path / "trimtab.toml"
    config.write_text(settings_of(base) + ENGINE.format(url="http://127.0.0.1:1", model="base", slots=2))
    settings = load_settings(config)
    assert (settings.base.name, settings.engine.kind, settings.rollout.shares[0]) == (base, "vllm", 0.5)
    assert settings.train.min_new_human_labels == USERS * TURNS_EACH
    if base == SMOLLM2:
        assert quickly(settings) == settings


@pytest.mark.timeout(1_800)
def test_the_loop_turns_on_the_small_model(tmp_path: Path) -> None:
    need()
    assert main(["--base", "tiny", "--json", str(tmp_path / "figures.json")]) == 0
    document = json.loads((tmp_path / "figures.json").read_bytes())
    assert {arm["by"] for arm in document["arms"]} >= {"base", document["candidates"][0]["digest"]}
    assert document["candidates"][0]["digest"] != document["candidates"][1]["digest"]
    assert (
        0
        < document["thumbs"]["in_next_snapshot"]
        <= document["thumbs"]["given"]
        == sum(arm["turns"] for arm in document["arms"])
    )
