"""The judge hop: `judge.requests` in, `verdicts.given` out. It runs in an app and a consumer group of its own, because a
slow judge must not stall the facts.

Kept: which questions were answered lately, so that a run that comes again costs nothing twice. Bad input (a request that
does not decode) is a dead letter. Every answer is sent as soon as it is there; the run is acknowledged when all are.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable

import msgspec
import structlog

from feedback.clock import Clock
from feedback.intake.edge import Record
from feedback.records import Judgement, JudgeRequest, Unjudged
from feedback.topics import VERDICTS
from streams import metrics
from streams.hops.hop import ATTEMPTS, Ack, Run, bury, sift
from streams.log import Producer, Stored

LATELY = 200_000
"""Answered questions that are remembered."""

FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 60.0

Ask = Callable[[JudgeRequest], Awaitable[Judgement]]

_decode = msgspec.json.Decoder(JudgeRequest).decode
log = structlog.get_logger()


class JudgeHop:
    """Asks with `ask`; `answered` are request ids whose verdicts are facts already.

    A `patient` hop waits while the judge can't be reached; else such turns are unjudged at once.
    """

    def __init__(self, ask: Ask, producer: Producer, answered: Iterable[str], patient: bool, clock: Clock) -> None:
        self._clock = clock
        self._ask = ask
        self._producer = producer
        self._patient = patient
        self._answered = dict.fromkeys(answered)

    async def requests(self, run: Run, ack: Ack) -> None:
        """A run of questions."""
        questions: dict[str, tuple[Stored, JudgeRequest]] = {}
        now_us = self._clock.now_us()
        for record, request in await sift(run, lambda record: _decode(record.value), self._producer, now_us):
            if request.request_id not in self._answered:
                questions[request.request_id] = (record, request)
        async with asyncio.TaskGroup() as tasks:
            asked = [tasks.create_task(self._one(record, request)) for record, request in questions.values()]
        failed = [poison for task in asked if (poison := task.result()) is not None]
        await bury([record for record, _ in questions.values()], failed, self._producer, self._clock.now_us(), ATTEMPTS)
        ack()

    async def _one(self, record: Stored, request: JudgeRequest) -> tuple[Stored, Exception] | None:
        """Ask and send the answer; what `ask` chokes on comes back with its error."""
        try:
            judgement = await self._asked(request)
        except Exception as error:
            return record, error
        key = f"{request.tenant}/{request.conversation_id}".encode()
        await self._producer.send([Record(VERDICTS, key, msgspec.json.encode(judgement))])
        self._answered[request.request_id] = None
        while len(self._answered) > LATELY:
            del self._answered[next(iter(self._answered))]
        metrics.observe_judgement(judgement)
        return None

    async def _asked(self, request: JudgeRequest) -> Judgement:
        pause_s, failures = FIRST_PAUSE_S, 0
        while True:
            try:
                with metrics.JUDGE_SECONDS.time():
                    judgement = await self._ask(request)
            except Exception:
                failures += 1
                if failures == ATTEMPTS:
                    raise
                await self._clock.sleep(FIRST_PAUSE_S * 2 ** (failures - 1))
                continue
            away = isinstance(judgement, Unjudged) and judgement.reason == "unreachable"
            metrics.JUDGE_UP.set(0 if away else 1)
            if not (away and self._patient):
                return judgement
            log.warning("judge_unreachable", waiting_s=pause_s)
            await self._clock.sleep(pause_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
