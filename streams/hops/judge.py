"""The judge hop: `judge.requests` in, `verdicts.given` out. It runs in an app and a consumer group of its own, because a
slow judge must not stall the facts.

Kept: which questions were answered lately, so that a run that comes again costs nothing twice. Bad input (what is no request,
or one that we did not sign, or that can't be asked) is a dead letter. A judge that is away is waited for; one that breaks off on a question gives no
verdict on that one. Every answer is sent as soon as it is there; the run is acknowledged when all
are.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from types import MappingProxyType

import msgspec
import structlog

from feedback.clock import Clock
from feedback.intake.contract import Rejected
from feedback.intake.edge import Edge
from feedback.records import Judgement, JudgeRequest, Unjudged
from feedback.topics import JUDGE_REQUESTS, VERDICTS
from streams import metrics
from streams.hops.burial import Burial, poison
from streams.hops.hop import ATTEMPTS, Ack, Failed, Run, sift
from streams.hops.kinds import stray, unsigned
from streams.log import Producer, Stored, Unsigned

LATELY = 200_000
"""Answered questions that are remembered."""

FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 60.0

OF_VALUES = (
    msgspec.MsgspecError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    ArithmeticError,
    RecursionError,
)
"""What a request can do to code that did not expect its like: it is buried when it does so again and again. Anything else
(the ledger's database is away, there is no memory) is not its fault, and it waits."""

REMEDY = "this question has no verdict; see the judge's own log for what it does to it"

Ask = Callable[[JudgeRequest], Awaitable[Judgement]]

_decode = msgspec.json.Decoder(JudgeRequest).decode
log = structlog.get_logger()


class JudgeHop:
    """Asks with `ask`; `answered` are request ids whose verdicts are facts already.

    A `patient` hop waits while the judge can't be reached; else such turns are unjudged at once.
    """

    def __init__(
        self,
        ask: Ask,
        producer: Producer,
        edge: Edge,
        answered: Iterable[str],
        patient: bool,
        clock: Clock,
        unsigned: Unsigned = MappingProxyType({}),
    ) -> None:
        self._clock = clock
        self._edge, self._unsigned = edge, unsigned
        self._ask = ask
        self._producer = producer
        self._burial = Burial(producer, clock)
        self._patient = patient
        self._answered = dict.fromkeys(answered)

    async def requests(self, run: Run, ack: Ack) -> None:
        """A run of questions."""
        digested, choked_on = sift(self._burial.left(run), self._request, self._sound)
        refused = [(record, made) for record, made in digested if isinstance(made, Rejected)]
        await self._burial.bury(refused + poison(choked_on))
        questions = {
            made.request_id: (record, made)
            for record, made in digested
            if isinstance(made, JudgeRequest) and made.request_id not in self._answered
        }
        async with asyncio.TaskGroup() as tasks:
            asked = [tasks.create_task(self._one(record, request)) for record, request in questions.values()]
        failed = [one for task in asked if (one := task.result()) is not None]
        await self._burial.bury(poison(failed), ATTEMPTS)
        self._burial.done(run)
        ack()

    async def _one(self, record: Stored, request: JudgeRequest) -> Failed | None:
        """Ask and send the answer; what `ask` chokes on comes back with its error."""
        try:
            judgement = await self._asked(request)
        except OF_VALUES as error:
            return record, error
        await self._producer.send([self._edge.vouched(VERDICTS, judgement)])
        self._answered[request.request_id] = None
        while len(self._answered) > LATELY:
            del self._answered[next(iter(self._answered))]
        metrics.observe_judgement(judgement)
        if isinstance(judgement, Unjudged) and judgement.reason == "disconnected":
            log.warning("judge_broke_off", request=judgement.request_id, why=judgement.detail, remedy=REMEDY)
        return None

    async def _asked(self, request: JudgeRequest) -> Judgement:
        """The judge's answer. A patient hop waits for it; else raises what is no fault of the request."""
        pause_s, failures = FIRST_PAUSE_S, 0
        while True:
            try:
                with metrics.JUDGE_SECONDS.time():
                    judgement = await self._ask(request)
                away = isinstance(judgement, Unjudged) and judgement.reason == "unreachable"
                if not isinstance(judgement, Unjudged) or not (away and self._patient):
                    metrics.JUDGE_UP.set(0 if away else 1)
                    return judgement
                why = judgement.detail or "unreachable"
            except Exception as error:
                failures += isinstance(error, OF_VALUES) or not self._patient
                if failures == ATTEMPTS:
                    raise
                why = repr(error)
            metrics.JUDGE_UP.set(0)
            log.warning("judge_away", waiting_s=pause_s, why=why)
            await self._clock.sleep(pause_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    def _request(self, record: Stored) -> JudgeRequest | Rejected:
        """Whoever asks decides what a verdict speaks of: nobody else's questions are asked."""
        return stray(record) or unsigned(record, self._edge, self._unsigned) or _decode(record.value)

    def _sound(self) -> Stored:
        made = self._edge.vouched(JUDGE_REQUESTS, SOUND)
        return Stored(made.topic, 0, 0, 0, made.key, made.value, made.headers)


SOUND = JudgeRequest(
    request_id="q",
    tenant="d",
    conversation_id="c",
    turn_id="t",
    messages=[{"role": "user", "content": "hi"}],
    reply="hi",
)
"""A request that any version understands."""
