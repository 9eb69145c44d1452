"""Adapters are made ready for engines beside everything else, and what is wrong with one stops nothing."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from deploy.engine.metrics import ROLES
from deploy.engine.refusing import RETRY_S
from deploy.engine.vllm import preparing as module
from deploy.engine.vllm.files import Files
from deploy.engine.vllm.preparing import Preparing
from deploy.rules.assignment import Routing, Shadow
from models.adapters import engine_name, read_adapter
from tests.deploy.candidates import base_of
from tests.deploy.engine.replies import Desk, failures
from tests.deploy.engine.vllm.speaking import recorded_candidate
from tests.deploy.engine.vllm.test_files import rested
from tests.fakes import ManualClock, until


@pytest.fixture
def candidates(tmp_path: Path) -> Path:
    (tmp_path / "candidates").mkdir()
    return tmp_path / "candidates"


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def desk() -> Desk:
    return Desk()


@pytest.fixture
async def preparing(candidates: Path, tmp_path: Path, desk: Desk, clock: ManualClock) -> AsyncIterator[Preparing]:
    files = Files(tmp_path / "adapters", tmp_path / "adapters")
    made = Preparing(base_of(candidates), candidates, files, desk.routing, clock)
    yield made
    await made.stop()


async def test_nobody_waits_for_what_is_prepared_and_it_is_there_in_the_order_that_it_is_wanted(
    preparing: Preparing, candidates: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (first, _), (second, _) = recorded_candidate(candidates, 1), recorded_candidate(candidates, 2)
    go = threading.Event()
    monkeypatch.setattr(module, "read_adapter", lambda *what: go.wait(60) and read_adapter(*what))
    assert preparing.ready([first, second]) == []
    assert preparing.ready([first, second]) == []
    go.set()
    await until(lambda: len(preparing.ready([second, first])) == 2)
    assert [one.name for one in preparing.ready([second, first])] == [engine_name(second), engine_name(first)]
    assert set(preparing.known) == {first, second}


async def test_whatever_goes_wrong_with_one_is_said_once_and_tried_again_later(
    preparing: Preparing, candidates: Path, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    (broken, _), (good, _) = recorded_candidate(candidates, 1), recorded_candidate(candidates, 2)
    failing = {broken}

    def read(path: Path, digest: str) -> object:
        if digest in failing:
            raise RuntimeError("out of memory")
        return read_adapter(path, digest)

    monkeypatch.setattr(module, "read_adapter", read)
    await until(lambda: [one.name for one in preparing.ready([broken, good])] == [engine_name(good)])
    assert (preparing.unusable(broken), preparing.unusable(good)) == (True, False)
    failing.clear()
    await until(lambda: not preparing._busy)
    preparing.ready([broken, good])
    assert not preparing._busy
    clock.set_forward(RETRY_S)
    await until(lambda: len(preparing.ready([broken, good])) == 2)
    assert not preparing.unusable(broken)


async def test_what_is_unusable_is_counted_each_time_for_what_it_is_wanted_for_then(
    preparing: Preparing, candidates: Path, clock: ManualClock, desk: Desk
) -> None:
    """One that fails unseen and then under rollout is counted for both: only then users miss it."""
    broken, _ = recorded_candidate(candidates)
    (candidates / broken / "adapter" / "adapter_model.safetensors").write_bytes(b"garbage")
    wanted = (
        Routing(shadow=Shadow("s", broken, 1, 1, 2, "5a" * 32)),
        Routing(candidate=broken, rollout_id="r", share=0.5),
    )
    before = {role: failures(role) for role in ROLES}
    for desk.now in wanted:
        for _ in range(2):
            preparing.ready([broken])
            await until(lambda: not preparing._busy)
            clock.set_forward(RETRY_S)
    assert {role: failures(role) - before[role] for role in ROLES} == {
        "incumbent": 0, "candidate": 2, "shadow": 2, "by_name": 0,
    }  # fmt: skip


async def test_files_that_are_gone_are_put_there_again(preparing: Preparing, candidates: Path, tmp_path: Path) -> None:
    digest, _ = recorded_candidate(candidates)
    await until(lambda: len(preparing.ready([digest])) == 1)
    (tmp_path / "adapters" / digest).rename(tmp_path / "moved")
    assert preparing.ready([digest]) == []
    await until(lambda: len(preparing.ready([digest])) == 1)
    assert (tmp_path / "adapters" / digest).exists()


async def test_what_is_not_needed_any_more_is_forgotten_and_its_files_go(
    preparing: Preparing, candidates: Path, tmp_path: Path
) -> None:
    (first, _), (second, _) = recorded_candidate(candidates, 1), recorded_candidate(candidates, 2)
    await until(lambda: len(preparing.ready([first, second])) == 2)
    for digest in (first, second):
        rested(tmp_path / "adapters" / digest)
    await until(lambda: not preparing._busy)
    await preparing.keep(lambda digest: digest == second)
    assert preparing.known == (second,)
    assert [(tmp_path / "adapters" / digest).exists() for digest in (first, second)] == [False, True]


async def test_the_base_is_asked_on_the_day_of_the_newest_adapter_and_each_adapter_on_its_own(
    preparing: Preparing, candidates: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    days = iter(("2026-11-27", "2026-11-28"))

    def read(path: Path, digest: str) -> object:
        adapter = read_adapter(path, digest)
        return replace(adapter, manifest=replace(adapter.manifest, template_date=next(days)))

    monkeypatch.setattr(module, "read_adapter", read)
    monkeypatch.setattr(module, "find_record", lambda *_: object())
    assert preparing.template_date("base") is None
    (first, _), (second, _) = recorded_candidate(candidates, 1), recorded_candidate(candidates, 2)
    await until(lambda: len(preparing.ready([first, second])) == 2)
    dates = [preparing.template_date(model) for model in (engine_name(first), engine_name(second), "base")]
    assert dates == ["2026-11-27", "2026-11-28", "2026-11-28"]
