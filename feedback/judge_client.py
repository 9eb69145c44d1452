"""Asking the judge: the thin shell between `judging` (what is asked, how it is read) and an OpenAI-compatible server."""

from __future__ import annotations

import asyncio
import hashlib
import random
import time
from collections.abc import Callable
from typing import Any

import openai
from msgspec import Struct

from feedback import judging
from feedback.judging import Prompt, Reason, Unparsable
from feedback.ledger import Ledger, Reservation
from feedback.records import Judgement, JudgeRequest, Unjudged, Verdict
from feedback.rubric import Rubric
from feedback.settings import JudgeSettings

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 20.0
CHARACTERS_PER_TOKEN = 2.0
"""Pessimistic, so that a reservation is an upper bound for most scripts; what it really cost is settled afterwards."""

DETAIL_CHARACTERS = 300


class JudgeKeyError(Exception):
    """The key file can't be read."""


class _Answer(Struct):
    """One call's outcome so far; tokens add up over tries."""

    text: str = ""
    reason: Reason | None = None
    detail: str = ""
    prompt_tokens: int = 0
    completion_tokens: int = 0


class Judge:
    """`await judge.judge(request)` gives a verdict, or the reason why there is none; it never raises for the judge's faults."""

    def __init__(
        self,
        settings: JudgeSettings,
        rubric: Rubric,
        ledger: Ledger,
        *,
        clock_us: Callable[[], int] = lambda: time.time_ns() // 1000,
        jitter: random.Random | None = None,
    ) -> None:
        assert settings.model is not None
        self._settings = settings
        self._model = settings.model
        self._rubric = rubric
        self._ledger = ledger
        self._clock_us = clock_us
        self._jitter = jitter or random.Random()  # noqa: S311 (spreads retries, guards nothing)
        self._parallel = asyncio.Semaphore(settings.parallel)
        self._key = key_of(settings)
        self._structured = True
        self._client = openai.AsyncOpenAI(
            base_url=settings.base_url, api_key=self._key or "none", timeout=settings.timeout_s, max_retries=0
        )

    async def judge(self, request: JudgeRequest) -> Judgement:
        """Ask: a single reply once, a comparison in both orders."""
        if request.other_reply is None:
            prompts = [judging.ask_scores(request, self._rubric)]
        else:
            prompts = [judging.ask_winner(request, self._rubric, swapped) for swapped in (False, True)]
        if (
            len(request.reply) > judging.MAX_REPLY_CHARACTERS
            or len(request.other_reply or "") > judging.MAX_REPLY_CHARACTERS
        ):
            return self._unjudged(request, prompts, "too_long", "a reply is too long to be judged", [])
        reservation = await asyncio.to_thread(self._ledger.reserve, self._worst_case_usd(prompts), self._clock_us())
        if not isinstance(reservation, Reservation):
            return self._unjudged(request, prompts, reservation, "the judge's budget is used up", [])
        answers: list[_Answer] = []
        try:
            answers.extend(await asyncio.gather(*(self._ask(prompt) for prompt in prompts)))
        finally:
            await asyncio.to_thread(self._ledger.settle, reservation.id, self._cost_usd(answers))
        return self._read(request, prompts, answers)

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    def _read(self, request: JudgeRequest, prompts: list[Prompt], answers: list[_Answer]) -> Judgement:
        failed = next((answer for answer in answers if answer.reason is not None), None)
        if failed is not None:
            assert failed.reason is not None
            one_of_two = len(answers) == 2 and any(answer.reason is None for answer in answers)
            reason: Reason = "order_failed" if one_of_two else failed.reason
            return self._unjudged(request, prompts, reason, failed.detail, answers)
        try:
            if request.other_reply is None:
                scores = judging.read_scores(answers[0].text, self._rubric)
                return self._verdict(
                    request, prompts, answers, scores.confidence, scores.rationale,
                    score=self._rubric.overall(scores.items), items=scores.items,
                )  # fmt: skip
            straight, swapped = (judging.read_winner(answer.text) for answer in answers)
        except Unparsable as error:
            return self._unjudged(request, prompts, "unparsable", str(error), answers)
        preference, confidence, gap = judging.combine(straight, swapped)
        return self._verdict(
            request, prompts, answers, confidence, straight.rationale, preference=preference, order_gap=gap
        )

    async def _ask(self, prompt: Prompt) -> _Answer:
        """One call with retries for what may pass; the reason of the last try stands."""
        answer = _Answer()
        async with self._parallel:
            for attempt in range(self._settings.attempts):
                pause_s = await self._try(prompt, answer)
                if pause_s is None or attempt == self._settings.attempts - 1:
                    break
                backoff_s = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2**attempt) * (0.5 + self._jitter.random())
                await asyncio.sleep(min(LONGEST_PAUSE_S, max(pause_s, backoff_s)))
        return answer

    async def _try(self, prompt: Prompt, answer: _Answer) -> float | None:
        """One try; returns the least pause in seconds before another, None where another makes no sense."""
        try:
            completion = await self._complete(prompt)
        except openai.RateLimitError as error:
            return self._failed(answer, "rate_limited", error, _retry_after_s(error))
        except openai.APITimeoutError as error:
            return self._failed(answer, "timeout", error, 0.0)
        except openai.APIConnectionError as error:
            return self._failed(answer, "unreachable", error, 0.0)
        except openai.APIStatusError as error:
            if error.status_code >= 500 or error.status_code in (408, 409, 425):
                return self._failed(answer, "server_error", error, _retry_after_s(error))
            return self._failed(answer, "refused", error, None)
        except (openai.OpenAIError, ValueError) as error:  # an answer that is no completion at all
            return self._failed(answer, "unparsable", error, None)
        if completion.usage is not None:
            answer.prompt_tokens += completion.usage.prompt_tokens or 0
            answer.completion_tokens += completion.usage.completion_tokens or 0
        choice = completion.choices[0] if completion.choices else None
        if (
            choice is None
            or choice.message is None
            or choice.message.refusal
            or choice.finish_reason == "content_filter"
        ):
            return self._failed(answer, "refused", "the judge declined to answer", None)
        answer.text, answer.reason = choice.message.content or "", None
        return None

    async def _complete(self, prompt: Prompt) -> Any:
        common: dict[str, Any] = {
            "model": self._model,
            "messages": prompt.messages,
            "temperature": 0,
            "max_tokens": self._settings.max_tokens,
        }
        create: Any = self._client.chat.completions.create
        if self._structured:
            schema = {"name": "verdict", "strict": True, "schema": prompt.schema}
            try:
                return await create(**common, response_format={"type": "json_schema", "json_schema": schema})
            except (openai.BadRequestError, openai.UnprocessableEntityError) as error:
                if "response_format" not in str(error) and "json_schema" not in str(error):
                    raise
                self._structured = False  # this server knows no structured output: ask in words, read as strictly
        return await create(**common)

    def _failed(self, answer: _Answer, reason: Reason, error: object, pause_s: float | None) -> float | None:
        detail = str(error)[:DETAIL_CHARACTERS]
        answer.reason, answer.detail = reason, detail.replace(self._key, "…") if self._key else detail
        return pause_s

    def _worst_case_usd(self, prompts: list[Prompt]) -> float:
        asked = sum(len(m["content"]) for prompt in prompts for m in prompt.messages) / CHARACTERS_PER_TOKEN
        return self._price_usd(asked, len(prompts) * self._settings.max_tokens)

    def _cost_usd(self, answers: list[_Answer]) -> float:
        return self._price_usd(sum(a.prompt_tokens for a in answers), sum(a.completion_tokens for a in answers))

    def _price_usd(self, prompt_tokens: float, completion_tokens: float) -> float:
        settings = self._settings
        return (
            prompt_tokens * settings.usd_per_million_prompt_tokens
            + completion_tokens * settings.usd_per_million_completion_tokens
        ) / 1e6

    def _common(self, request: JudgeRequest, prompts: list[Prompt], answers: list[_Answer]) -> dict[str, Any]:
        prompt_hash = "-".join(prompt.hash for prompt in prompts)
        parts = (request.request_id, self._model, self._rubric.version, prompt_hash)
        return {
            "verdict_id": f"v-{hashlib.sha256(':'.join(parts).encode()).hexdigest()[:32]}",
            "request_id": request.request_id,
            "tenant": request.tenant,
            "conversation_id": request.conversation_id,
            "turn_id": request.turn_id,
            "other_turn_id": request.other_turn_id,
            "occurred_at_us": self._clock_us(),
            "model": self._model,
            "rubric": self._rubric.version,
            "prompt_tokens": sum(answer.prompt_tokens for answer in answers),
            "completion_tokens": sum(answer.completion_tokens for answer in answers),
            "cost_usd": self._cost_usd(answers),
        }

    def _verdict(
        self,
        request: JudgeRequest,
        prompts: list[Prompt],
        answers: list[_Answer],
        confidence: float,
        rationale: str,
        **outcome: Any,
    ) -> Verdict:
        common = self._common(request, prompts, answers)
        prompt_hash = "-".join(prompt.hash for prompt in prompts)
        return Verdict(**common, prompt_hash=prompt_hash, confidence=confidence, rationale=rationale, **outcome)

    def _unjudged(
        self, request: JudgeRequest, prompts: list[Prompt], reason: Reason, detail: str, answers: list[_Answer]
    ) -> Unjudged:
        return Unjudged(**self._common(request, prompts, answers), reason=reason, detail=detail)


def key_of(settings: JudgeSettings) -> str | None:
    """The judge's key, from the environment or a file; raises JudgeKeyError."""
    if settings.api_key is not None:
        return settings.api_key.get_secret_value()
    if settings.api_key_file is None:
        return None
    try:
        return settings.api_key_file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise JudgeKeyError(f"the judge's key file {settings.api_key_file} can't be read: {error}") from None


async def probe(settings: JudgeSettings) -> str | None:
    """What is wrong with the judge, as one sentence; None when it is there and knows the model."""
    client = openai.AsyncOpenAI(
        base_url=settings.base_url, api_key=key_of(settings) or "none", timeout=5, max_retries=0
    )
    try:
        known = [model.id async for model in client.models.list()]
    except openai.AuthenticationError:
        return f"the judge at {settings.base_url} refuses our key: set TRIMTAB_JUDGE__API_KEY or judge.api_key_file"
    except openai.APIConnectionError:
        return f"the judge at {settings.base_url} can't be reached: is it running, is judge.base_url right?"
    except openai.APIStatusError as error:
        return f"the judge at {settings.base_url} answers {error.status_code} to a list of its models"
    finally:
        await client.close()
    if settings.model not in known:
        return (
            f"the judge at {settings.base_url} does not know the model {settings.model}; it has {', '.join(known[:10])}"
        )
    return None


def _retry_after_s(error: openai.APIStatusError) -> float:
    try:
        return max(0.0, float(error.response.headers.get("retry-after", "0")))
    except ValueError:
        return 0.0
