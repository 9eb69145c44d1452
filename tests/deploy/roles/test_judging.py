"""The controller asks the judge about blind comparisons, and waits for a judge that is away."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from deploy.control.store import Control
from deploy.parts import ledger
from deploy.roles.judging import AT_ONCE, judge_comparisons, label_of, question
from deploy.roles.role import Role
from deploy.rules.comparing import JUDGE, Comparison, ComparisonLabel
from deploy.settings import Settings
from deploy.state import open_state
from feedback.records import Unjudged
from feedback.settings import JudgeSettings
from tests.deploy.pairs import CANDIDATE, add_candidate, pair
from tests.fakes import ManualClock, until
from tests.judge_server import JudgeServer, judge_server, prefers


@pytest.fixture
def pairs(control: Control, clock: ManualClock) -> list[Comparison]:
    """Ten of an open candidate, just sampled."""
    add_candidate(control, CANDIDATE)
    found = [pair(n, at_us=clock.now_us()) for n in range(10)]
    control.comparisons.add(found)
    return found


@asynccontextmanager
async def judging(
    tmp_path: Path, control: Control, clock: ManualClock, server: JudgeServer, **changes: Any
) -> AsyncIterator[None]:
    judge = {"base_url": server.url, "model": "judge", "free": True, "attempts": 1, "parallel": 4} | changes
    role = Role(open_state(tmp_path / "state"), Settings(judge=JudgeSettings(**judge)), control, clock)
    stop = asyncio.Event()
    running = asyncio.create_task(judge_comparisons(role, stop))
    try:
        yield
    finally:
        stop.set()
        await running


def labels(control: Control) -> list[ComparisonLabel]:
    return [label for one in control.comparisons.of(CANDIDATE, None) for label in one.labels]


async def labelled(control: Control, many: int) -> list[ComparisonLabel]:
    await until(lambda: len(labels(control)) == many, f"{many} labels of the judge")
    return labels(control)


async def test_every_pair_is_asked_in_both_orders_and_the_label_says_by_which_judge(
    tmp_path: Path, control: Control, clock: ManualClock, pairs: list[Comparison]
) -> None:
    with judge_server(prefers("the candidate's answer", confidence=0.8)) as server:
        async with judging(tmp_path, control, clock, server):
            found = await labelled(control, 10)
        assert len(server.asked) == 20
    assert [label.labeller for label in found] == [JUDGE] * 10
    assert [label.preference for label in found] == pytest.approx([0.9] * 10)
    assert (found[0].how["model"], found[0].how["order_gap"], found[0].reason) == ("judge", 0.0, "the better one")
    assert found[0].at_us == clock.now_us()


async def test_a_judge_that_always_says_the_first_prefers_neither(
    tmp_path: Path, control: Control, clock: ManualClock, pairs: list[Comparison]
) -> None:
    with judge_server(lambda _: {"winner": "1", "confidence": 1.0, "rationale": "A"}) as server:
        async with judging(tmp_path, control, clock, server):
            found = await labelled(control, 10)
    assert {label.preference for label in found} == {0.5}


async def test_a_judge_that_is_away_is_waited_for_with_growing_pauses(
    tmp_path: Path, control: Control, clock: ManualClock, pairs: list[Comparison]
) -> None:
    def paused(logs: list[Any], waiting_s: float) -> bool:
        return clock.waiting == 1 and logs[-1]["waiting_s"] == waiting_s

    with judge_server(prefers("the candidate's answer")) as server:
        away = replace(server, url="http://127.0.0.1:9/v1")
        with capture_logs() as logs:
            async with judging(tmp_path, control, clock, away):
                for pause_s in (1, 2, 4):
                    await until(lambda p=pause_s: bool(logs) and paused(logs, p), f"a pause of {pause_s} s")
                    await clock.advance(pause_s)
        assert {line["event"] for line in logs} == {"comparisons_wait_for_judge"}
        assert labels(control) == []
        async with judging(tmp_path, control, clock, server):
            assert len(await labelled(control, 10)) == 10


async def test_one_that_gives_no_verdict_on_a_pair_gives_a_label_without_preference_and_the_reason(
    tmp_path: Path, control: Control, clock: ManualClock, pairs: list[Comparison]
) -> None:
    def brain(body: dict[str, Any]) -> Any:
        if re.search(r"question 3\b", body["messages"][1]["content"]):
            return "I would rather not say.\x1b[31m"
        return prefers("the candidate's answer")(body)

    with judge_server(brain) as server:
        async with judging(tmp_path, control, clock, server):
            found = {label.comparison_id: label for label in await labelled(control, 10)}
    silent = found[pairs[3].id]
    assert (silent.preference, silent.reason.split(":")[0]) == (None, "unparsable")
    assert sum(label.preference is None for label in found.values()) == 1


async def test_money_comes_from_the_judges_ledger_and_where_it_is_used_up_pairs_wait(
    tmp_path: Path, control: Control, clock: ManualClock, pairs: list[Comparison]
) -> None:
    prices = {"free": False, "usd_per_million_prompt_tokens": 1.0, "usd_per_million_completion_tokens": 1.0}
    with judge_server(prefers("the candidate's answer")) as server, capture_logs() as logs:
        async with judging(tmp_path, control, clock, server, **prices, usd_per_day=1e-6):
            await until(lambda: any(line["event"] == "comparisons_wait_for_judge" for line in logs), "it waits")
        assert (server.asked, labels(control)) == ([], [])
        async with judging(tmp_path, control, clock, server, **prices):
            found = await labelled(control, 10)
    spent = ledger(JudgeSettings(), control).spent(clock.now_us())
    assert spent.day_usd == pytest.approx(sum(label.how["cost_usd"] for label in found))
    assert spent.day_usd == pytest.approx(10 * 2 * 1_100 / 1e6)


async def test_a_pair_whose_replies_are_the_same_is_a_tie_without_asking(
    tmp_path: Path, control: Control, clock: ManualClock
) -> None:
    add_candidate(control, CANDIDATE)
    same = replace(pair(1, at_us=clock.now_us()), candidate_reply="so", incumbent_reply="so ")
    control.comparisons.add([same])
    with judge_server(prefers("so")) as server:
        async with judging(tmp_path, control, clock, server):
            (found,) = await labelled(control, 1)
        assert server.asked == []
    assert found.preference == 0.5


async def test_a_judge_that_is_killed_in_the_middle_goes_on_where_it_was(
    tmp_path: Path, control: Control, clock: ManualClock, pairs: list[Comparison]
) -> None:
    control.comparisons.label([ComparisonLabel(one.id, JUDGE, 0.5, clock.now_us(), {}) for one in pairs[:7]])
    with judge_server(prefers("the candidate's answer")) as server:
        async with judging(tmp_path, control, clock, server):
            await labelled(control, 10)
        assert len(server.asked) == 6


async def test_where_there_is_no_judge_or_no_key_to_ask_it_with_nothing_is_asked(
    tmp_path: Path, control: Control, clock: ManualClock, pairs: list[Comparison]
) -> None:
    state = open_state(tmp_path / "state")
    await judge_comparisons(Role(state, Settings(), control, clock), asyncio.Event())
    keyless = JudgeSettings(base_url="http://127.0.0.1:9/v1", model="m", free=True, api_key_file=tmp_path / "none")
    with capture_logs() as logs:
        await judge_comparisons(Role(state, Settings(judge=keyless), control, clock), asyncio.Event())
    assert [line["event"] for line in logs] == ["comparisons_not_judged"]
    assert labels(control) == []


def test_the_question_names_neither_side() -> None:
    asked = question(pair(1))
    assert (asked.reply, asked.other_reply) == ("the candidate's answer 1", "the incumbent's answer 1")
    assert CANDIDATE not in repr(asked)
    assert AT_ONCE > 1


@pytest.mark.parametrize("reason", ["unreachable", "budget_hour", "budget_day"])
def test_what_may_be_asked_later_is_no_label(reason: str) -> None:
    away = Unjudged(
        verdict_id="v", request_id="r", tenant="t", conversation_id="c", turn_id="1", occurred_at_us=1, reason=reason
    )
    assert label_of(pair(1), away, 1) is None
