"""Asking the judge: the thin shell between `judging` (what is asked, how it is read), the ledger and `judge_call`."""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections.abc import Sequence
from typing import Any

import httpx2
import msgspec
import openai
from msgspec import Struct

from feedback.clock import Clock
from feedback.judge import prompt
from feedback.judge.call import Answer, Caller, Tokens, open_client, price_usd, worst
from feedback.judge.ledger import Ledger, Refusal, Reservation, lot_of
from feedback.judge.prompt import Prompt, Reason, Scores, Winner
from feedback.judge.reading import Unparsable
from feedback.judge.rubric import Rubric
from feedback.records import Judgement, JudgeRequest, Unjudged, Verdict
from feedback.settings import JudgeSettings, read_key

PROBE_TIMEOUT_S = 5.0


class Judge:
    """`await judge.judge(request)` gives a verdict, or the reason why there is none; it never raises for the judge's faults."""

    def __init__(
        self,
        settings: JudgeSettings,
        rubric: Rubric,
        ledger: Ledger,
        *,
        clock: Clock,
        jitter: random.Random | None = None,
    ) -> None:
        assert settings.model is not None
        assert settings.unpriced is None, settings.unpriced
        self._settings = settings
        self._model = settings.model
        self._rubric = rubric
        self._ledger = ledger
        self._clock = clock
        self._questions = asyncio.Semaphore(settings.parallel)
        jitter = jitter or random.Random()  # noqa: S311 (spreads retries, guards nothing)
        self._caller = Caller(settings, key_of(settings), clock, jitter)

    async def judge(self, request: JudgeRequest) -> Judgement:
        """Ask: a single reply once, a comparison in both orders, an edit in the one that its turn draws."""
        prompts = prompts_of(request, self._rubric)
        if max(len(request.reply), len(request.other_reply or "")) > prompt.MAX_REPLY_CHARACTERS:
            return self._unjudged(request, prompts, "too_long", "a reply is too long to be judged", [])
        async with self._questions:  # only what is about to be asked holds money
            answers = await self._paid(prompts, lot_of(request.request_id))
        if isinstance(answers, str):
            return self._unjudged(request, prompts, answers, "the judge's budget is used up", [])
        return self._read(request, prompts, answers)

    async def close(self) -> None:
        """Close the connections."""
        await self._caller.close()

    async def _paid(self, prompts: Sequence[Prompt], lot: int) -> list[Answer] | Refusal:
        """Answers to all prompts, with the worst that they may cost reserved before and settled after.

        Where this is cut short, what was reserved stays so: nobody knows what the server has done meanwhile.
        """
        first = await self._reserve(prompts, lot)
        if not isinstance(first, Reservation):
            return first
        more: list[Reservation] = []

        async def ask(prompt: Prompt) -> Answer:
            async def pay_again() -> bool:
                reservation = await self._reserve([prompt])
                if isinstance(reservation, Reservation):
                    more.append(reservation)
                return isinstance(reservation, Reservation)

            return await self._caller.ask(prompt, pay_again)

        answers = await asyncio.gather(*map(ask, prompts))
        spent_usd = self._price_usd(sum((answer.tokens for answer in answers), Tokens()))
        await asyncio.to_thread(self._ledger.settle, first.id, spent_usd)
        for reservation in more:  # the first one carries the cost of all tries
            await asyncio.to_thread(self._ledger.settle, reservation.id, 0.0)
        return answers

    async def _reserve(self, prompts: Sequence[Prompt], lot: int = 0) -> Reservation | Refusal:
        most = sum((worst(prompt, self._settings.max_tokens) for prompt in prompts), Tokens())
        return await asyncio.to_thread(self._ledger.reserve, self._price_usd(most), self._clock.now_us(), lot)

    def _price_usd(self, tokens: Tokens) -> float:
        return price_usd(self._settings, tokens)

    def _read(self, request: JudgeRequest, prompts: list[Prompt], answers: list[Answer]) -> Judgement:
        read: list[Scores | Winner] = []
        failed: list[tuple[Reason, str]] = []
        for asked, answer in zip(prompts, answers, strict=True):
            if answer.reason is not None:
                failed.append((answer.reason, answer.detail))
                continue
            try:
                read.append(self._answer(asked, answer, request))
            except Unparsable as error:
                cut = (
                    f" (cut off after {self._settings.max_tokens} tokens: raise judge.max_tokens)" if answer.cut else ""
                )
                failed.append(("unparsable", f"{error}{cut}"))
        if failed:
            reason, detail = min(failed, key=lambda failure: failure[0] != "unreachable")  # that one can be asked later
            if read and reason != "unreachable":
                reason, detail = "order_failed", f"{reason}: {detail}"
            return self._unjudged(request, prompts, reason, detail, answers)
        return self._verdict(request, prompts, answers, read)

    def _answer(self, asked: Prompt, answer: Answer, request: JudgeRequest) -> Scores | Winner:
        """What one answer says; raises Unparsable."""
        question = asked.messages[-1]["content"]
        return (
            prompt.read_scores(answer.text, self._rubric, question)
            if request.other_reply is None
            else prompt.read_winner(answer.text, question)
        )

    def _verdict(
        self, request: JudgeRequest, prompts: list[Prompt], answers: list[Answer], read: Sequence[Scores | Winner]
    ) -> Verdict:
        outcome: dict[str, Any]
        match read:
            case [Scores() as scores]:
                outcome = {
                    "score": self._rubric.overall(scores.items),
                    "items": scores.items,
                    "confidence": scores.confidence,
                }
            case [Winner() as straight, Winner() as swapped]:
                preference, confidence, gap = prompt.combine(straight, swapped)
                outcome = {"preference": preference, "order_gap": gap, "confidence": confidence}
            case [Winner() as winner]:
                preference = 1 - winner.first if prompt.is_edit_second(request) else winner.first
                outcome = {"preference": preference, "confidence": winner.confidence}
            case _:
                raise AssertionError(read)
        common = self._common(request, prompts, answers)
        return Verdict(**common, **outcome, prompt_hash=_hash(prompts), rationale=read[0].rationale)

    def _common(self, request: JudgeRequest, prompts: list[Prompt], answers: list[Answer]) -> dict[str, Any]:
        spent = sum((answer.tokens for answer in answers), Tokens())
        parts = (request.request_id, self._model, self._rubric.version, _hash(prompts))
        return {
            "verdict_id": f"v-{hashlib.sha256(':'.join(parts).encode()).hexdigest()[:32]}",
            "request_id": request.request_id,
            "tenant": request.tenant,
            "conversation_id": request.conversation_id,
            "turn_id": request.turn_id,
            "other_turn_id": request.other_turn_id,
            "edit": request.edit,
            "occurred_at_us": self._clock.now_us(),
            "model": self._model,
            "rubric": self._rubric.version,
            "prompt_tokens": spent.prompt,
            "completion_tokens": spent.completion,
            "cost_usd": self._price_usd(spent),
        }

    def _unjudged(
        self, request: JudgeRequest, prompts: list[Prompt], reason: Reason, detail: str, answers: list[Answer]
    ) -> Unjudged:
        return Unjudged(**self._common(request, prompts, answers), reason=reason, detail=detail)


def prompts_of(request: JudgeRequest, rubric: Rubric) -> list[Prompt]:
    """The calls that a question takes."""
    if request.edit is not None:
        return [prompt.ask_edit(request, rubric)]
    if request.other_reply is None:
        return [prompt.ask_scores(request, rubric)]
    return [prompt.ask_winner(request, rubric, swapped) for swapped in (False, True)]


def _hash(prompts: Sequence[Prompt]) -> str:
    """Names the exact question: both orders of a comparison."""
    return "-".join(prompt.hash for prompt in prompts)


def key_of(settings: JudgeSettings) -> str | None:
    """The judge's key, from the environment or a file; raises KeyUnusable."""
    return read_key("judge", settings.api_key, settings.api_key_file)


class _Model(Struct, frozen=True):
    id: str


class _Models(Struct, frozen=True):
    data: list[_Model]


async def probe(settings: JudgeSettings, clock: Clock) -> str | None:
    """What is wrong with the judge, as one sentence; None when it is there and knows the model."""
    where = f"the judge at {settings.address}"
    client = open_client(settings, key_of(settings), PROBE_TIMEOUT_S)
    try:
        async with clock.timeout(PROBE_TIMEOUT_S):
            response = await client.models.with_raw_response.list()
        known = [model.id for model in msgspec.json.decode(response.content, type=_Models).data]
    except openai.AuthenticationError:
        return f"{where} refuses our key: set TRIMTAB_JUDGE__API_KEY or judge.api_key_file"
    except openai.APIStatusError as error:
        return f"{where} answers {error.status_code} to a list of its models: is judge.base_url right?"
    except (openai.OpenAIError, httpx2.HTTPError, ExceptionGroup, TimeoutError):
        return f"{where} can't be reached: is it running, is judge.base_url right?"
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return (
            f"{where} answers something else than a list of its models: is judge.base_url right (does it end in /v1)?"
        )
    finally:
        await client.close()
    if settings.model not in known:
        shown = ", ".join(ascii(name[:60]) for name in known[:10]) or "none"
        return f"{where} does not know the model {settings.model}; it has {shown}"
    return None
