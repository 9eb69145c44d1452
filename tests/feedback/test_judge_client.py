"""The judge over real HTTP: verdicts, both orders, money, and every way in which it can fail."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Callable
from typing import Any

import pytest
from pydantic import SecretStr

from feedback import judge_client, rubric
from feedback.judge_client import Judge, probe
from feedback.ledger import Budget, Refusal, Reservation, Spent, refusal
from feedback.records import JudgeRequest, Unjudged, Verdict
from feedback.settings import JudgeSettings
from tests.judge_server import JudgeServer, judge_server, prefers, scores, winner

NOW_US = 1_790_000_000_000_000


class MemoryLedger:
    """The rule of the ledger, kept in memory."""

    def __init__(self, budget_usd: float = 1e9) -> None:
        self.budget = Budget(budget_usd, budget_usd)
        self.reserved: dict[str, float] = {}
        self.settled: dict[str, float] = {}

    def reserve(self, cost_usd: float, now_us: int) -> Reservation | Refusal:
        refused = refusal(self.spent(now_us), self.budget, cost_usd)
        if refused is not None:
            return refused
        name = f"r{len(self.reserved)}"
        self.reserved[name] = cost_usd
        return Reservation(name)

    def settle(self, reservation_id: str, cost_usd: float) -> None:
        self.settled[reservation_id] = cost_usd

    def spent(self, now_us: int) -> Spent:
        total = sum(self.settled.get(name, cost) for name, cost in self.reserved.items())
        return Spent(total, total)


def request(other_reply: str | None = None, reply: str = "The parcel is on its way.") -> JudgeRequest:
    return JudgeRequest(
        request_id="q-1",
        tenant="default",
        conversation_id="c",
        turn_id="t1",
        messages=[{"role": "user", "content": "Where is my parcel?"}],
        reply=reply,
        other_turn_id="t2" if other_reply else None,
        other_reply=other_reply,
    )


def judge(server: JudgeServer | str, ledger: MemoryLedger | None = None, **changes: Any) -> Judge:
    settings = JudgeSettings(
        base_url=server if isinstance(server, str) else server.url,
        model="judge",
        api_key=SecretStr("sk-very-secret"),
        **{"attempts": 2, "timeout_s": 5, **changes},
    )
    return Judge(settings, rubric.load(), ledger or MemoryLedger(), clock_us=lambda: NOW_US, jitter=random.Random(1))


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judge_client, "FIRST_PAUSE_S", 0.001)
    monkeypatch.setattr(judge_client, "LONGEST_PAUSE_S", 0.01)


async def test_a_single_reply_is_scored_by_rubric_item() -> None:
    with judge_server(scores(4)) as server:
        verdict = await judge(server).judge(request())
    assert isinstance(verdict, Verdict)
    assert verdict.score == pytest.approx(0.75)
    assert set(verdict.items) == {"helpful", "correct", "brand_tone", "safe"}
    assert (verdict.prompt_tokens, verdict.completion_tokens) == (1_000, 100)
    assert verdict.rubric == rubric.load().version
    assert server.authorizations == ["Bearer sk-very-secret"]


async def test_a_comparison_is_asked_in_both_orders() -> None:
    with judge_server(prefers("on its way")) as server:
        verdict = await judge(server).judge(request(other_reply="I do not know."))
    assert isinstance(verdict, Verdict)
    assert len(server.asked) == 2
    assert verdict.preference == pytest.approx(0.9)
    assert verdict.order_gap == pytest.approx(0)


async def test_a_judge_that_goes_by_position_prefers_nobody() -> None:
    with judge_server(winner("1", confidence=1.0)) as server:
        verdict = await judge(server).judge(request(other_reply="I do not know."))
    assert isinstance(verdict, Verdict)
    assert verdict.preference == pytest.approx(0.5)
    assert (verdict.order_gap, verdict.confidence) == (pytest.approx(1), pytest.approx(0))


async def test_half_a_comparison_is_no_verdict() -> None:
    def think(body: dict[str, Any]) -> Any:
        first = body["messages"][1]["content"].split("<<<REPLY 1", 1)[1].split("<<<REPLY 2", 1)[0]
        return winner("1")(body) if "on its way" in first else 400

    with judge_server(think) as server:
        answer = await judge(server).judge(request(other_reply="I do not know."))
    assert isinstance(answer, Unjudged)
    assert answer.reason == "order_failed"
    assert answer.prompt_tokens == 1_000


@pytest.mark.parametrize(
    ("brain", "reason"),
    [
        (lambda _: "I would say it is rather good", "unparsable"),
        (lambda _: "", "unparsable"),
        (lambda _: '{"scores": {"helpful": 9}, "confidence": 1, "rationale": ""}', "unparsable"),
        (lambda _: {"scores": {}, "confidence": 1, "rationale": ""}, "unparsable"),
        (lambda _: "[" * 100_000, "unparsable"),
        (lambda _: "x" * 1_000_000, "unparsable"),
        (lambda _: 401, "refused"),
        (lambda _: 429, "rate_limited"),
        (lambda _: 503, "server_error"),
    ],
)
async def test_a_bad_answer_is_unjudged_because(brain: Callable[[Any], Any], reason: str) -> None:
    with judge_server(brain) as server:
        answer = await judge(server).judge(request())
    assert isinstance(answer, Unjudged)
    assert answer.reason == reason
    assert len(answer.detail) <= judge_client.DETAIL_CHARACTERS


async def test_an_unreachable_judge_is_unjudged_because() -> None:
    with judge_server(scores()) as server:
        url = server.url
    answer = await judge(url).judge(request())
    assert isinstance(answer, Unjudged)
    assert answer.reason == "unreachable"


async def test_a_slow_judge_runs_into_the_time_limit() -> None:
    with judge_server(scores()) as server:
        blocked = threading.Event()
        server.brain = lambda body: (blocked.wait(5), scores()(body))[1]
        answer = await judge(server, timeout_s=0.05).judge(request())
        blocked.set()
    assert isinstance(answer, Unjudged)
    assert answer.reason == "timeout"


async def test_a_passing_fault_is_tried_again() -> None:
    answers: list[Any] = [503, 429]
    with judge_server(lambda body: answers.pop(0) if answers else scores()(body)) as server:
        verdict = await judge(server, attempts=3).judge(request())
    assert isinstance(verdict, Verdict)
    assert len(server.asked) == 3


async def test_a_fault_of_ours_is_not_tried_again() -> None:
    with judge_server(lambda _: 401) as server:
        await judge(server, attempts=3).judge(request())
    assert len(server.asked) == 1


async def test_a_server_without_structured_output_is_asked_in_words() -> None:
    def think(body: dict[str, Any]) -> Any:
        if "response_format" in body:
            return 400
        return {
            "scores": dict.fromkeys(["helpful", "correct", "brand_tone", "safe"], 5),
            "confidence": 1,
            "rationale": "",
        }

    with judge_server(think) as server:
        asked = judge(server)
        first, second = await asked.judge(request()), await asked.judge(request())
    assert isinstance(first, Verdict)
    assert isinstance(second, Verdict)
    assert ["response_format" in body for body in server.asked] == [True, False, False]


async def test_the_key_never_shows_in_a_reason() -> None:
    with judge_server(lambda _: 401) as server:
        answer = await judge(server).judge(request())
    assert isinstance(answer, Unjudged)
    assert "401" in answer.detail
    assert "sk-very-secret" not in answer.detail


async def test_money_is_reserved_before_and_settled_after() -> None:
    ledger = MemoryLedger()
    with judge_server(scores()) as server:
        seen: list[float] = []
        server.brain = lambda body: (seen.append(ledger.spent(NOW_US).hour_usd), scores()(body))[1]
        verdict = await judge(
            server, ledger, usd_per_million_prompt_tokens=1.0, usd_per_million_completion_tokens=10.0
        ).judge(request())
    assert verdict.cost_usd == pytest.approx(0.002)
    assert seen[0] > 0.002
    assert ledger.spent(NOW_US).hour_usd == pytest.approx(0.002)


async def test_without_budget_nothing_is_asked() -> None:
    with judge_server(scores()) as server:
        answer = await judge(server, MemoryLedger(0.000_001), usd_per_million_prompt_tokens=1.0).judge(request())
    assert isinstance(answer, Unjudged)
    assert answer.reason == "budget_day"
    assert server.asked == []


async def test_no_more_questions_are_in_flight_than_allowed() -> None:
    with judge_server(scores()) as server:
        asked = judge(server, parallel=3)
        await asyncio.gather(*(asked.judge(request()) for _ in range(20)))
    assert server.most_at_once <= 3


async def test_one_question_has_one_verdict_id() -> None:
    with judge_server(scores()) as server:
        one, two = await judge(server).judge(request()), await judge(server).judge(request())
        other = await judge(server).judge(request(reply="Something else."))
    assert one.verdict_id == two.verdict_id != other.verdict_id


async def test_the_probe_says_what_is_wrong() -> None:
    with judge_server(scores()) as server:
        good = JudgeSettings(base_url=server.url, model="judge")
        assert await probe(good) is None
        assert "does not know" in (await probe(good.model_copy(update={"model": "other"})) or "")
    assert "can't be reached" in (await probe(good) or "")
