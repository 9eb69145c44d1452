"""The controller: it finds what a training left, serves the rules, and says what it can't use."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from deploy.console.port import MAX_BODY_BYTES
from deploy.control.store import Control
from deploy.decisions.operations import Operations
from deploy.roles.controller import CLEAR_S, KEPT_S, WATCH_S, run_controller
from deploy.roles.role import REFRESH_S, Role
from deploy.settings import AccessSettings, CompareSettings, RolloutSettings, Settings
from deploy.state import State, open_state
from deploy.web.serving import listen
from feedback.settings import JudgeSettings
from tests.deploy.candidates import make_candidate
from tests.deploy.conftest import WON
from tests.deploy.decisions.approving import approve
from tests.deploy.decisions.people import People
from tests.deploy.pairs import label, sample, stored
from tests.fakes import ManualClock, until
from tests.judge_server import judge_server, prefers
from tests.models.snapshots import said, seal, turn


@asynccontextmanager
async def controller(
    state: State, control: Control, clock: ManualClock, require_keys: bool = False, settings: Settings | None = None
) -> AsyncIterator[tuple[Role, httpx.AsyncClient]]:
    """One that is ready, and a client of its admin port."""
    admin, stop = listen("127.0.0.1", 0), asyncio.Event()
    role = Role(state, settings or Settings(), control, clock, admin)
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{admin.getsockname()[1]}") as client:
        running = asyncio.create_task(run_controller(role, stop, require_keys))
        await until(
            lambda: running.done() or (role.waiting is None and clock.waiting >= 1), "a controller that is ready"
        )
        assert not running.done()
        yield role, client
        stop.set()
        await running


async def candidates(client: httpx.AsyncClient) -> list[str]:
    listed: list[dict[str, Any]] = (await client.get("/admin/v1/candidates")).raise_for_status().json()
    return [each["digest"] for each in listed]


async def test_a_candidate_that_a_training_left_is_found_at_the_next_look(
    tmp_path: Path, control: Control, clock: ManualClock
) -> None:
    state = open_state(tmp_path / "state")
    async with controller(state, control, clock) as (_, client):
        assert (await client.get("/readyz")).status_code == 200
        digest = make_candidate(state.candidates)
        assert await candidates(client) == []
        await clock.advance(REFRESH_S)
        await until(lambda: clock.waiting == 1, "the look is over")
        assert await candidates(client) == [digest]


async def test_one_that_can_not_be_used_is_told_once_and_keeps_no_other_from_being_found(
    tmp_path: Path, control: Control, clock: ManualClock
) -> None:
    state = open_state(tmp_path / "state")
    broken, good = sorted(make_candidate(state.candidates, seed) for seed in range(2))
    (state.candidates / broken / "report.json").write_text("{")
    with capture_logs() as lines:
        async with controller(state, control, clock) as (_, client):
            assert await candidates(client) == [good]
            await clock.live_through(3 * REFRESH_S, REFRESH_S)
    (told,) = (line for line in lines if line["event"] == "candidate_unusable")
    assert broken[:8] in told["problem"]


async def test_where_keys_are_required_nobody_gets_in_without_one(
    tmp_path: Path, control: Control, clock: ManualClock
) -> None:
    async with controller(open_state(tmp_path / "state"), control, clock, require_keys=True) as (_, client):
        assert (await client.get("/admin/v1/candidates")).status_code == 401
        assert (await client.get("/readyz")).status_code == 200


async def test_a_candidate_that_harms_is_taken_back_by_itself(
    tmp_path: Path, control: Control, clock: ManualClock
) -> None:
    state = open_state(tmp_path / "state")
    digest = make_candidate(state.candidates)
    halves = Settings(rollout=RolloutSettings(shares=(0.5, 1.0)))
    rules = Operations(control, lambda: halves, state.candidates, clock, lambda *_: WON)
    rules.register(digest)
    approve(rules, digest)
    rules.promote(actor="ada")
    People(control, state.facts, clock).come(300, 6 * 3_600, errors=(0.01, 0.5))
    with capture_logs() as logs:
        async with controller(state, control, clock):
            assert rules.serving()["rollout"] is None
    (steered,) = [entry for entry in logs if entry["event"] == "rollout_steered"]
    assert (steered["step"], steered["candidate"]) == ("rollback", f"tt-{digest[:16]}")
    assert "errors at 1 h: candidate" in steered["reason"]
    assert REGISTRY.get_sample_value("trimtab_rollbacks") == 1


async def test_a_candidate_that_lacks_comparisons_comes_into_the_shadow_by_itself(
    tmp_path: Path, control: Control, clock: ManualClock
) -> None:
    state = open_state(tmp_path / "state")
    digest = make_candidate(state.candidates)
    with capture_logs() as logs:
        async with controller(state, control, clock):
            shadow = control.routing().shadow
    assert shadow is not None
    assert shadow.candidate == digest
    assert [entry["step"] for entry in logs if entry["event"] == "shadow_attended"] == [
        "begin: nothing but comparisons is missing"
    ]


async def test_once_a_day_it_forgets_the_units_of_rollouts_that_ended_long_ago(
    tmp_path: Path, control: Control, clock: ManualClock
) -> None:
    state = open_state(tmp_path / "state")
    rules = Operations(control, Settings, state.candidates, clock, lambda *_: WON)
    rules.register(digest := make_candidate(state.candidates))
    approve(rules, digest)
    rules.promote(actor="ada")
    exposure = control.expose("default", "c", "u", clock.now_us())
    assert exposure.rollout_id is not None
    rules.rollback(actor="ada")
    clock.set_forward(KEPT_S - CLEAR_S / 2)
    async with controller(state, control, clock):
        assert control.assignments.enrolments(exposure.rollout_id)
        await clock.live_through(CLEAR_S, CLEAR_S / 2)
        assert not control.assignments.enrolments(exposure.rollout_id)


async def test_a_large_body_and_a_name_that_was_led_here_are_refused_before_any_key_is_asked_for(
    tmp_path: Path, control: Control, clock: ManualClock
) -> None:
    async with controller(open_state(tmp_path / "state"), control, clock, require_keys=True) as (_, client):
        large = await client.post("/admin/v1/halt", content=b"x" * (MAX_BODY_BYTES + 1))
        assert (large.status_code, large.json()["error"]["code"]) == (413, "request_too_large")
        for path in ("/admin/v1/candidates", "/metrics", "/healthz", "/readyz", "/docs", "/openapi.json"):
            assert (await client.get(path, headers={"host": "evil.example"})).status_code == 403
        assert not control.routing().halted


async def test_a_name_that_is_configured_is_answered_to(tmp_path: Path, control: Control, clock: ManualClock) -> None:
    settings = Settings(access=AccessSettings(host_names=("trimtab.example",)))
    async with controller(open_state(tmp_path / "state"), control, clock, settings=settings) as (_, client):
        for name, status in (("trimtab.example", 200), ("evil.example", 403)):
            assert (await client.get("/healthz", headers={"host": name})).status_code == status


async def test_a_candidate_passes_by_what_people_and_the_judge_say_of_its_pairs_without_anybody_asking_the_gate(
    tmp_path: Path, control: Control, clock: ManualClock
) -> None:
    state = open_state(tmp_path / "state")
    seal(state.snapshots / "s-1", [turn(9_000, "train", said("where?"), "here")])
    digest = make_candidate(state.candidates, samples=[sample(n) for n in range(24)])
    with judge_server(prefers("the candidate's", confidence=1.0)) as server:
        judge = JudgeSettings(base_url=server.url, model="judge", free=True)
        settings = Settings(judge=judge, compare=CompareSettings(people=1.0, second=0.0))
        async with controller(state, control, clock, settings=settings) as (_, client):
            await until(lambda: len(server.asked) == 48 and clock.waiting == 2, "every pair was judged, in both orders")
            control.comparisons.label([label(one, 1.0, at_us=clock.now_us()) for one in stored(control, digest)])
            await clock.live_through(WATCH_S + REFRESH_S, REFRESH_S)  # so that it has looked again
            (view,) = (await client.get("/admin/v1/candidates")).json()
            shown = (await client.get(f"/admin/v1/candidates/{digest}")).json()
    assert (view["state"], view["gate"]["codes"]) == ("passed", ["wins"])
    assert (shown["comparisons"]["agreed"], shown["comparisons"]["agreed_of"]) == (24, 24)
