"""`trimtab status`, as it is typed: one screen, and one document."""

from __future__ import annotations

import asyncio
import json
import math
from pathlib import Path
from typing import Any

import pytest
from msgspec import to_builtins

from deploy.cli import common
from deploy.cli.common import DONE, REFUSED
from deploy.console.port import admin_app
from deploy.control.store import open_control
from deploy.gateway import metrics
from deploy.parts import ledger, note_engine, open_log
from deploy.roles.presence import Presence, present, this_process
from deploy.rules.names import short
from deploy.rules.schedule import NOT_TRAINED
from deploy.serving_settings import EngineSettings
from deploy.settings import Settings, load_settings
from deploy.state import State, open_state
from deploy.training.noting import Noted, note_of
from feedback.durable import write_json
from feedback.intake.edge import Record
from feedback.judge.ledger import Reservation
from models.adapters import engine_name
from streams import metrics as streams
from tests.deploy.candidates import make_candidate
from tests.deploy.cli.typed import typed
from tests.deploy.decisions.approving import serves
from tests.deploy.gateway.test_orphans import left_by
from tests.deploy.gateways import served
from tests.fakes import CLOCK
from tests.own_engine import MODEL, own_engine


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> State:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(common.stdout, "_width", 300)
    return open_state(tmp_path / "a [b] c")


def screen(state: State) -> list[str]:
    code, out, error = typed("status", "--state", state.root)
    assert (code, error) == (DONE, "")
    return [" ".join(line.split()) for line in out.splitlines()]


def test_a_fresh_directory_says_that_there_is_nothing_yet_and_what_to_type(state: State) -> None:
    seen = screen(state)
    assert "waiting on the log nothing" in seen
    assert "dead letters none" in seen
    assert "facts turns 0, ratings 0, verdicts 0" in seen
    assert "newest snapshot none" in seen
    assert "last training none" in seen
    assert seen[-1].startswith("next: trimtab replay FILE")


def test_a_directory_is_shown_by_its_whole_name_whatever_that_is(state: State) -> None:
    assert screen(state)[0] == f"state {state.root}"


def test_what_waits_what_failed_and_what_is_halted_is_on_the_screen(state: State) -> None:
    log = open_log(state, Settings(), CLOCK)
    log.append([Record("turns.served", b"c", b"{}")] * 3)
    log.close()
    open_control(state.control).close()
    typed("halt", "--state", state.root)
    seen = screen(state)
    assert "waiting on the log turns.served 3" in seen
    assert any(line.startswith("serving HALTED: the bare base") for line in seen)
    assert seen[-1].startswith("next: trimtab resume")
    document = json.loads(typed("status", "--state", state.root, "--json").out)
    assert document["lag"]["turns.served"] == 3
    assert (document["serving"]["halted"], document["training"]["last"]) == (True, None)


async def test_what_a_dead_gateway_left_is_on_the_screen_with_what_sends_it(state: State) -> None:
    await left_by(state, 1, "a")
    await left_by(state, 2, "b", "c")
    (waits,) = [line for line in screen(state) if line.startswith("waiting in spools")]
    assert "1 records in spool.db, 2 records in spool-2.db" in waits
    assert "start one (`trimtab up` or `trimtab gateway`)" in waits
    document = json.loads(typed("status", "--state", state.root, "--json").out)
    assert document["abandoned_spools"] == {"spool.db": 1, "spool-2.db": 2}
    with state.play("gateway"):
        assert any("2 records in spool-2.db" in line and "spool.db" not in line for line in screen(state))


def test_what_to_type_next_is_one_line_however_narrow_the_terminal(
    state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A command that is cut in two is another command: `trimtab rollback` without its `--expect`."""
    open_control(state.control).close()
    typed("show", make_candidate(state.candidates), "--state", state.root)
    typed("halt", "--state", state.root)
    monkeypatch.setattr(common.stdout, "_width", 30)
    for command in ("status", "candidates"):
        line = typed(command, "--state", state.root).out.splitlines()[-1]
        assert line.startswith("next: trimtab resume --expect"), command
        assert line.endswith("(once it is safe)"), command


def asks(*urls: str, kind: str = "openai") -> None:
    """Configure an engine at these addresses."""
    Path("trimtab.toml").write_text(f"[engine]\nkind = {kind!r}\nmodel = {MODEL!r}\nurls = {json.dumps(urls)}\n")


def test_with_an_engine_that_takes_no_adapters_it_says_so_and_proposes_no_training(state: State) -> None:
    asks("http://127.0.0.1:9/v1")
    with state.lock("gateway"):
        seen = screen(state)
    assert f"engine {MODEL} at http://127.0.0.1:9/v1" in seen
    assert NOT_TRAINED in seen
    assert f"next training waits: {NOT_TRAINED}" in seen
    assert seen[-1] == "next: connect your bot (docs/connect-your-bot.md)"


def test_the_engine_that_the_running_gateway_asks_is_meant_whatever_is_configured(state: State) -> None:
    engine = EngineSettings(kind="openai", urls=("http://gpu-1:8000/v1",), model="m")
    note_engine(state, Settings(engine=engine))
    assert "engine local: a small model in the gateway's own process" in screen(state)
    with state.lock("gateway"):
        assert "engine m at http://gpu-1:8000/v1" in screen(state)
        said = typed("approve", serves(state), "--evidence", "0" * 16, "--state", state.root)
    assert (said.code, "this engine takes no adapters" in said.error) == (REFUSED, True)


def test_of_vllm_it_is_said_replica_by_replica_what_is_there(state: State) -> None:
    digest = serves(state)
    with own_engine() as first, own_engine() as second:
        first.adapters, second.adapters = [engine_name(digest), "somebody's"], []
        asks(first.url, second.url, "http://127.0.0.1:9/v1", kind="vllm")
        seen = screen(state)
        assert f"{first.url}: has {engine_name(digest)}" in seen
        assert f"{second.url}: has no adapter" in seen
        assert any(line.startswith("http://127.0.0.1:9/v1: AWAY, http://127.0.0.1:9/v1 can't be") for line in seen)
        assert not any("does NOT serve" in line for line in seen)


def test_of_vllm_only_what_the_gateway_that_runs_has_proved_is_said_to_serve(state: State) -> None:
    digest = serves(state)
    name = engine_name(digest)
    with own_engine() as first:
        first.adapters = [name, "tt-zero-1", "tt-other"]
        asks(first.url, kind="vllm")
        noted = {"replicas": [{"url": first.url, "adapters": ["tt-other", "tt-gone"], "refused": {}}], "unusable": {}}
        write_json(state.replicas(1), noted)
        assert f"engine {MODEL} on 1 vLLM replicas" in screen(state)
        assert f"{first.url}: has {name}, tt-other" in screen(state)
        with state.lock("gateway"):
            seen = screen(state)
        assert f"{first.url}: serves tt-other; {name} is loaded and not proved yet" in seen
        assert f"{short(digest)} does NOT serve: it is loaded and not proved yet; others answer in its place" in seen


def test_an_adapter_that_no_replica_has_is_never_said_to_serve(state: State) -> None:
    digest = serves(state)
    asks("http://127.0.0.1:9/v1", kind="vllm")
    missing = f"{short(digest)} does NOT serve: "
    assert f"{missing}no replica has it; others answer in its place" in screen(state)
    asks("http://127.0.0.1:9/v1")
    assert f"{missing}this engine takes no adapters; others answer in its place" in screen(state)


def document(state: State) -> Any:
    return json.loads(typed("status", "--state", state.root, "--json").out)


async def test_the_roles_that_run_are_on_the_screen_with_since_when_and_the_turns_that_were_lost(state: State) -> None:
    metrics.SPOOL_LIMIT_BYTES.set(1_000_000_000)
    metrics.SPOOL_BYTES.set_function(lambda: 2_500_000)
    metrics.TURNS_LOST.inc(3)
    started_us = CLOCK.now_us() - 3_600_000_000 * 5
    async with served(admin_app(lambda: "no base model yet")) as url:
        its = Presence("gateway", 1, 4711, this_process("gateway", 1, 0, None).host, started_us, url)
        with present(state.root, its):
            seen, found = await asyncio.to_thread(screen, state), await asyncio.to_thread(document, state)
    assert "roles gateway NOT READY (process 4711, started 5 h ago): no base model yet" in seen
    lost = metrics.TURNS_LOST._value.get()
    assert (
        f"spools 2.5 of 1,000 MB wait (full: more are answered and lost); {lost:,.0f} turns lost since the gateways that run "
        "started"
    ) in seen
    assert (found["roles"][0]["alive"], found["roles"][0]["ready"], found["roles"][0]["process"]) == (True, False, 4711)
    assert (found["spools"]["turns_lost"], found["spools"]["bytes"]) == (lost, 2_500_000)
    assert "roles none runs" in screen(state)
    assert document(state)["roles"] == []


@pytest.mark.parametrize(
    ("free", "said"),
    [
        (50e9, "disk 50.0 of 100.0 GB are left"),
        (1.5e9, "disk 1.5 of 100.0 GB are left: free some space before it is full"),
        (10e6, "disk FULL, 0.0 of 100.0 GB are left: nothing more is learned"),
        (math.nan, "disk it does not say how much is left"),
    ],
)
def test_the_room_on_the_disk_is_on_the_screen(
    state: State, monkeypatch: pytest.MonkeyPatch, free: float, said: str
) -> None:
    monkeypatch.setattr("deploy.cli.status.free_bytes", lambda _: free)
    monkeypatch.setattr("deploy.cli.status.size_bytes", lambda _: 100e9)
    assert any(line.startswith(said) for line in screen(state))
    told = document(state)["disk"]
    assert told == {
        "free_bytes": None if math.isnan(free) else free,
        "size_bytes": None if math.isnan(free) else 100e9,
        "low": free < 2e9,
    }


def judged() -> None:
    """Configure a judge."""
    Path("trimtab.toml").write_text(
        '[judge]\nbase_url = "http://127.0.0.1:9/v1"\nmodel = "m"\nusd_per_hour = 2.0\nfree = true\n'
    )


async def test_the_judge_is_on_the_screen_with_what_it_costs_and_whether_it_answers(state: State) -> None:
    assert "judge none is configured: unrated turns stay unjudged" in screen(state)
    judged()
    control = open_control(state.control)
    reservation = ledger(load_settings(None).judge, control).reserve(0.25, CLOCK.now_us())
    control.close()
    assert isinstance(reservation, Reservation)
    (line,) = [line for line in screen(state) if line.startswith("judge")]
    assert line.startswith(
        "judge m not asked since the worker started; 0.2500 of 2.00 USD this hour, 0.2500 of 10.00 USD today"
    )
    streams.JUDGE_SECONDS.observe(1)
    for up, said in ((1, "judge m answers;"), (0, "judge m CAN'T BE REACHED;")):
        streams.JUDGE_UP.set(up)
        async with served(admin_app(lambda: None)) as url:
            its = this_process("worker", 1, CLOCK.now_us(), None)
            with present(state.root, Presence("worker", 1, its.pid, its.host, its.started_at_us, url)):
                seen, found = await asyncio.to_thread(screen, state), await asyncio.to_thread(document, state)
        assert any(line.startswith(said) for line in seen)
        assert (found["judge"]["reachable"], found["judge"]["unpriced"]) == (bool(up), None)
        assert found["judge"]["hour"] == {"spent_usd": 0.25, "budget_usd": 2.0}


def test_a_judge_without_a_price_is_on_the_screen(state: State) -> None:
    Path("trimtab.toml").write_text('[judge]\nbase_url = "http://127.0.0.1:9/v1"\nmodel = "m"')
    assert any(line.startswith("judge the judge is not asked") for line in screen(state))


def test_a_training_under_way_is_on_the_screen_with_its_phase_and_how_long_is_left(state: State) -> None:
    control, now_us = open_control(state.control), CLOCK.now_us()
    training = control.trainings.start("200 new labels", now_us)
    earlier = {"base": 1.0, "reward": 60.0, "samples": 30.0, "policy": 60.0, "evaluate": 30.0}
    began_us = now_us - 40_000_000
    note = Noted(training, "reward", 20, 80, now_us, 0, began_us, began_us, earlier)
    write_json(note_of(state.work), to_builtins(note))
    with state.lock("training"):
        (line,) = [line for line in screen(state) if line.startswith("2/5 reward model")]
        under_way = document(state)["training"]["under_way"]
    assert line.startswith("2/5 reward model: 20 of 80 steps, 2.0 s each, ")
    assert "left, all ~" in line
    assert (under_way["phase"], under_way["done"], under_way["total"]) == ("reward", 20, 80)
    assert 0 < under_way["left_s"] <= 120 < under_way["left_in_all_s"] <= 240
    assert document(state)["training"]["under_way"] is None  # it was killed
    control.close()
