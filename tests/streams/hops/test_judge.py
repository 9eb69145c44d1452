"""The judge's hop: what can't be asked is buried, whatever it is; what is nobody's fault is waited for."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import pytest
from prometheus_client import REGISTRY

from feedback.intake.edge import Edge
from feedback.judge import rubric
from feedback.judge.client import Judge
from feedback.records import Judgement, JudgeRequest, Unjudged
from feedback.settings import JudgeSettings
from feedback.topics import DEAD_LETTERS, JUDGE_REQUESTS, VERDICTS
from streams import dead_letters
from streams.hops import hop
from streams.hops.hop import ATTEMPTS, handle
from streams.hops.judge import JudgeHop
from streams.log import Stored
from tests.fakes import CLOCK, ManualClock, MemoryProducer, until
from tests.feedback.judge.test_client import MemoryLedger
from tests.judge_server import Answer, Raw, judge_server, scores
from tests.streams.hops.test_ingest import DEEP, AnswerLost
from tests.streams.test_worker import KEY, NOW_US, ours, request, signed, turn

EDGE = Edge(KEY)
Ask = Callable[[JudgeRequest], Awaitable[Judgement]]


class NoWait(ManualClock):
    """Nobody waits for anything."""

    async def sleep(self, seconds: float) -> None:
        self.set_forward(seconds)


def run_of(*values: bytes) -> list[Stored]:
    """Values that we signed, whatever they are."""
    headers = [ours(JUDGE_REQUESTS, value).headers for value in values]
    return [Stored(JUDGE_REQUESTS, 0, n, NOW_US, b"k", value, headers[n]) for n, value in enumerate(values)]


def questions(*numbers: int) -> list[Stored]:
    return run_of(*(msgspec.json.encode(request(number)) for number in numbers))


async def refused(asked: JudgeRequest) -> Judgement:
    return Unjudged(
        verdict_id="v", request_id=asked.request_id, tenant="d", conversation_id="c", turn_id=asked.turn_id,
        occurred_at_us=NOW_US, reason="refused",
    )  # fmt: skip


def judge(producer: MemoryProducer, ask: Ask = refused, patient: bool = True) -> JudgeHop:
    return JudgeHop(ask, producer, EDGE, [], patient, NoWait())


def letters(producer: MemoryProducer) -> list[dead_letters.DeadLetter]:
    return [dead_letters._decode(record.value) for record in producer.records if record.topic == DEAD_LETTERS]


@pytest.mark.parametrize(
    ("value", "reason"),
    [(b"garbage", "poison"), (b"", "poison"), (DEEP, "poison"), (signed(turn(1)).value, "wrong_topic")],
)
async def test_two_records_that_are_no_requests_are_buried_alone_in_a_run(value: bytes, reason: str) -> None:
    producer, acks = MemoryProducer(), list[int]()
    await judge(producer).requests(run_of(value, value), lambda: acks.append(1))
    assert [(letter.reason, letter.offset) for letter in letters(producer)] == [(reason, 0), (reason, 1)]
    assert acks == [1]


@pytest.mark.parametrize("error", [RecursionError, AttributeError, UnicodeError, KeyError])
async def test_requests_that_can_not_be_asked_are_buried_though_they_are_all_of_a_run(error: type[Exception]) -> None:
    tries = 0

    async def ask(asked: JudgeRequest) -> Judgement:
        nonlocal tries
        tries += 1
        raise error

    producer, acks = MemoryProducer(), list[int]()
    await judge(producer, ask).requests(questions(1, 2), lambda: acks.append(1))
    assert [(letter.reason, letter.offset, letter.attempts) for letter in letters(producer)] == [
        ("poison", 0, ATTEMPTS),
        ("poison", 1, ATTEMPTS),
    ]
    assert (tries, acks) == (2 * ATTEMPTS, [1])


async def test_a_question_that_we_did_not_sign_is_not_asked() -> None:
    """Who writes the question decides what the verdict speaks of."""
    (good,) = questions(1)
    forged = msgspec.structs.replace(good, value=good.value.replace(b'"hi"', b'"buy"'), offset=1)
    old = Stored(JUDGE_REQUESTS, 0, 0, NOW_US, b"k", msgspec.json.encode(request(7)), ())
    producer = MemoryProducer()
    hop = JudgeHop(refused, producer, EDGE, [], True, NoWait(), {(JUDGE_REQUESTS, 0): 1})
    await hop.requests([old, forged], lambda: None)
    assert [(letter.reason, letter.offset) for letter in letters(producer)] == [("unsigned", 1)]
    answered = [json.loads(record.value)["request_id"] for record in producer.records if record.topic == VERDICTS]
    assert answered == ["q7"]


async def test_a_question_waits_while_the_ledger_is_away_and_is_asked_then() -> None:
    away = 20

    async def ask(asked: JudgeRequest) -> Judgement:
        nonlocal away
        if away:
            away -= 1
            raise OSError("connection refused")
        return await refused(asked)

    producer, acks = MemoryProducer(), list[int]()
    await judge(producer, ask).requests(questions(1), lambda: acks.append(1))
    assert [record.topic for record in producer.records] == [VERDICTS]
    assert acks == [1]


async def test_a_replay_does_not_wait_and_buries_nothing_for_it() -> None:
    async def ask(asked: JudgeRequest) -> Judgement:
        raise OSError("connection refused")

    producer, acks = MemoryProducer(), list[int]()
    with pytest.raises(ExceptionGroup) as raised:
        await judge(producer, ask, patient=False).requests(questions(1), lambda: acks.append(1))
    assert isinstance(raised.value.exceptions[0], OSError)
    assert (producer.records, acks) == ([], [])


async def test_what_of_a_run_was_buried_and_answered_is_not_again_when_it_is_tried_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(hop, "FIRST_PAUSE_S", 0.0)
    asked: list[str] = []

    async def ask(question: JudgeRequest) -> Judgement:
        asked.append(question.request_id)
        if question.request_id == "q1":
            raise KeyError("role")
        return await refused(question)

    producer = AnswerLost(1, VERDICTS)
    before = REGISTRY.get_sample_value("trimtab_dead_letters_total", {"reason": "poison"}) or 0
    run = run_of(b"garbage", *(msgspec.json.encode(request(number)) for number in (1, 2)))
    await handle(run, lambda: None, judge(producer, ask).requests, CLOCK)
    assert REGISTRY.get_sample_value("trimtab_dead_letters_total", {"reason": "poison"}) == before + 2
    assert [letter.offset for letter in letters(producer)].count(0) == 1
    verdicts = [json.loads(record.value)["request_id"] for record in producer.records if record.topic == VERDICTS]
    assert set(verdicts) == {"q2"}


async def test_the_judge_that_is_away_is_told_and_waited_for() -> None:
    clock, producer = ManualClock(), MemoryProducer()
    answers = ["unreachable", "refused"]

    async def ask(asked: JudgeRequest) -> Judgement:
        return msgspec.structs.replace(await refused(asked), reason=answers.pop(0))

    working = asyncio.create_task(JudgeHop(ask, producer, EDGE, [], True, clock).requests(questions(1), lambda: None))
    await until(lambda: clock.waiting == 1)
    assert REGISTRY.get_sample_value("trimtab_judge_up") == 0
    await clock.advance(1.0)
    await working
    assert REGISTRY.get_sample_value("trimtab_judge_up") == 1


async def test_a_question_on_which_the_judge_breaks_off_fails_alone_and_the_log_says_where_and_why(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def think(body: dict[str, Any]) -> Answer:
        return Raw(b"{", missing=9) if "answer 2" in body["messages"][1]["content"] else scores()(body)

    producer, acks = MemoryProducer(), list[int]()
    with judge_server(think) as server:
        settings = JudgeSettings(base_url=server.url.replace("://", "://ann:s3cret@"), model="judge", free=True)
        client = Judge(settings, rubric.load(), MemoryLedger(), clock=NoWait())
        asked = [msgspec.structs.replace(request(n), reply=f"answer {n}") for n in range(4)]
        hop = judge(producer, client.judge)
        await hop.requests(run_of(*map(msgspec.json.encode, asked)), lambda: acks.append(1))
        await client.close()
    outcomes = {said["request_id"]: said.get("reason") for said in (json.loads(r.value) for r in producer.records)}
    assert outcomes == {"q0": None, "q1": None, "q2": "disconnected", "q3": None}
    assert (len(server.asked), acks) == (6, [1])
    told = capsys.readouterr().out
    assert "judge_broke_off" in told
    assert server.url.removeprefix("http://") in told
    assert "RemoteProtocolError" in told
    assert "s3cret" not in told
