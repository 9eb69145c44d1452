"""One question to an OpenAI-compatible server: what is sent, what is read of what comes back, what is tried again.

Whatever the server does, the outcome is an `Answer`: a text, or the reason why there is none. Nothing that it sends is
believed to have the right shape or size.
"""

from __future__ import annotations

import asyncio
import codecs
import random
from collections.abc import Awaitable, Callable, Mapping
from contextlib import nullcontext
from email.utils import parsedate_to_datetime
from typing import Annotated, Any

import httpx2
import msgspec
import openai
from msgspec import Meta, Struct

from feedback.clock import Clock
from feedback.judge.prompt import Prompt, Reason
from feedback.settings import JudgeSettings

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 20.0
LONGEST_RETRY_AFTER_S = 120.0
"""A server that asks for a longer pause is not waited for."""

GATEWAY_TIMEOUTS = frozenset({408, 504, 524})
"""Something before the server gave up waiting for it."""

CONNECT_TIMEOUT_S = 5.0
BREAKS = 3
"""A question on which the connection breaks so often is at fault itself, as far as anybody can tell from here."""
REMEMBERED = 10_000
"""Questions on which it broke."""
MAX_ANSWER_BYTES = 1_000_000
DETAIL_CHARACTERS = 300


class Tokens(Struct, frozen=True):
    """Tokens asked and answered."""

    prompt: int = 0
    completion: int = 0

    def __add__(self, other: Tokens) -> Tokens:
        return Tokens(self.prompt + other.prompt, self.completion + other.completion)


class Answer(Struct, frozen=True):
    """What came of one question after all tries. `tokens` counts each try at its worst where the server did not say."""

    tokens: Tokens
    text: str = ""
    reason: Reason | None = None
    detail: str = ""
    cut: bool = False
    """The model was not done: its tokens were used up."""


class CallFailed(Exception):
    """One try gave no completion. `pause_s`: the least pause before another, None where another makes no sense.

    `billed`: the server may have done its work all the same, and want money for it.
    """

    def __init__(self, reason: Reason, detail: object, pause_s: float | None, billed: bool = False) -> None:
        super().__init__(str(detail))
        self.reason, self.pause_s, self.billed = reason, pause_s, billed


class Dialect(Struct, frozen=True):
    """What the server understands: everything, until it complains."""

    structured: bool = True
    limit: str = "max_tokens"
    temperature: bool = True

    def without(self, complaint: str) -> Dialect | None:
        """What to try after a complaint; None where it is about something else."""
        if self.structured and ("response_format" in complaint or "json_schema" in complaint):
            return msgspec.structs.replace(self, structured=False)  # the prompt asks for JSON in words, too
        if self.limit == "max_tokens" and "max_completion_tokens" in complaint:
            return msgspec.structs.replace(self, limit="max_completion_tokens")
        if self.temperature and "'temperature'" in complaint and "nsupported" in complaint:
            return msgspec.structs.replace(self, temperature=False)
        return None

    def options(self, prompt: Prompt, max_tokens: int) -> dict[str, Any]:
        options: dict[str, Any] = {"messages": prompt.messages, self.limit: max_tokens}
        if self.temperature:
            options["temperature"] = 0
        if self.structured:
            schema = {"name": "verdict", "strict": True, "schema": prompt.schema}
            options["response_format"] = {"type": "json_schema", "json_schema": schema}
        return options


class _Part(Struct, frozen=True):
    type: str = "text"
    text: str | None = None


class _Message(Struct, frozen=True):
    content: str | list[_Part] | None = None
    refusal: str | None = None
    reasoning_content: Any = None
    reasoning: Any = None

    @property
    def text(self) -> str:
        """What was answered; parts that are no text (a thought, say) are none of it."""
        if isinstance(self.content, list):
            return "".join(part.text or "" for part in self.content if part.type in ("text", "output_text"))
        return self.content or ""

    @property
    def thought(self) -> str:
        """Where some servers put the whole answer of a model that did not think."""
        return next((text for text in (self.reasoning_content, self.reasoning) if isinstance(text, str)), "")


class _Choice(Struct, frozen=True):
    message: _Message
    finish_reason: str | None = None


class _Completion(Struct, frozen=True):
    choices: Annotated[list[_Choice], Meta(min_length=1)]
    usage: Any = None


class _Usage(Struct, frozen=True):
    prompt_tokens: Annotated[int, Meta(ge=0, le=10**9)]
    completion_tokens: Annotated[int, Meta(ge=0, le=10**9)]


class Caller:
    """Asks with retries for what may pass, `settings.parallel` calls at a time."""

    def __init__(
        self,
        settings: JudgeSettings,
        key: str | None,
        clock: Clock,
        jitter: random.Random,
    ) -> None:
        assert settings.model is not None
        self._model = settings.model
        self._settings = settings
        self._key = key
        self._clock = clock
        self._jitter = jitter
        self._parallel = asyncio.Semaphore(settings.parallel)
        self._alone = asyncio.Lock()
        self._breaks = dict[str, int]()
        """How often the connection broke on each question since it was answered last."""
        self._dialect = Dialect()
        self._client = open_client(settings, key, settings.timeout_s)

    async def ask(self, prompt: Prompt, pay_again: Callable[[], Awaitable[bool]]) -> Answer:
        """The answer to one prompt; the reason of the last try stands.

        A question on which the connection broke is asked again when no other such question is: where it brings the server
        down, those that were under way beside it are not blamed for it each time. It stays on record while the server is
        away after that, for whoever asks it once more.

        `pay_again` is asked before another try where the last one may have cost money.
        """
        spent, name = Tokens(), prompt.hash
        attempt = 1
        while True:
            if self._breaks.get(name, 0) >= BREAKS:
                return Answer(spent, reason="disconnected", detail=f"{self._settings.address} broke off {BREAKS} times")
            try:
                async with self._alone if name in self._breaks else nullcontext(), self._parallel:
                    completion = await self._try(prompt)
            except CallFailed as failure:
                if failure.billed:
                    spent += worst(prompt, self._settings.max_tokens)
                broken = self._broken(name) if failure.reason == "disconnected" else 0
                last = failure.pause_s is None or attempt >= self._settings.attempts or broken >= BREAKS
                if last or (failure.billed and not await pay_again()):
                    return Answer(spent, reason=failure.reason, detail=self._scrubbed(str(failure)))
                await self._clock.sleep(self._pause_s(attempt, failure.pause_s or 0.0))
                attempt += 1
            else:
                self._breaks.pop(name, None)
                return _answer(completion, spent + _used(completion, prompt, self._settings.max_tokens))

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    def _broken(self, name: str) -> int:
        """Count one more time that the connection broke on this question."""
        times = self._breaks.pop(name, 0) + 1
        self._breaks[name] = times
        while len(self._breaks) > REMEMBERED:
            del self._breaks[next(iter(self._breaks))]
        return times

    async def _try(self, prompt: Prompt) -> _Completion:
        """One try; raises CallFailed."""
        try:
            async with self._clock.timeout(self._settings.timeout_s):  # httpx2 limits each read, not their sum
                return await self._complete(prompt)
        except TimeoutError:
            raise CallFailed("timeout", f"no answer within {self._settings.timeout_s:g} s", 0.0, billed=True) from None
        except openai.APIStatusError as error:
            raise self._refused(error) from None
        except (openai.APIConnectionError, httpx2.HTTPError, ExceptionGroup) as error:
            raise _disconnected(error, self._settings.address) from None
        except openai.OpenAIError as error:
            raise CallFailed("unparsable", error, None, billed=True) from None

    async def _complete(self, prompt: Prompt) -> _Completion:
        while True:
            dialect = self._dialect
            options: Any = dialect.options(prompt, self._settings.max_tokens)
            create: Any = self._client.chat.completions.with_streaming_response.create
            try:
                async with create(model=self._model, **options) as response:
                    return _completion(await _body(response))
            except (openai.BadRequestError, openai.UnprocessableEntityError) as error:
                simpler = dialect.without(_said(error))
                if simpler is None:
                    raise
                self._dialect = simpler

    def _refused(self, error: openai.APIStatusError) -> CallFailed:
        wait_s = retry_after_s(error.response.headers, self._clock.now_us())
        pause_s = wait_s if wait_s <= LONGEST_RETRY_AFTER_S else None
        if error.status_code == 429:
            return CallFailed("rate_limited", _said(error), pause_s)
        if error.status_code >= 500 or error.status_code in (408, 409, 425):
            return CallFailed("server_error", _said(error), pause_s, billed=error.status_code in GATEWAY_TIMEOUTS)
        return CallFailed("refused", _said(error), None)

    def _pause_s(self, attempt: int, least_s: float) -> float:
        """Exponential backoff with jitter, and no less than the server asked for."""
        backoff_s = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** min(attempt - 1, 30))
        return max(least_s, backoff_s * (0.5 + self._jitter.random()))

    def _scrubbed(self, detail: str) -> str:
        """What a server says may repeat our key, or be no text that can be stored: take that out, then cut."""
        text = detail.encode("utf-8", "replace").decode("utf-8")
        for secret in filter(None, (self._key, self._settings.address_password)):
            text = text.replace(secret, "…")
        return text[:DETAIL_CHARACTERS]


def open_client(settings: JudgeSettings, key: str | None, timeout_s: float) -> openai.AsyncOpenAI:
    """A client that tries once; retries are ours."""
    connect_s = min(CONNECT_TIMEOUT_S, timeout_s / 2)  # well before the limit of all: not there is not slow
    timeout = httpx2.Timeout(timeout_s, connect=connect_s)
    return openai.AsyncOpenAI(base_url=settings.base_url, api_key=key or "none", timeout=timeout, max_retries=0)


def worst(prompt: Prompt, max_tokens: int) -> Tokens:
    """Most tokens that one try may cost: no tokenizer makes more tokens than there are bytes."""
    return Tokens(len(msgspec.json.encode(prompt)), max_tokens)


def price_usd(settings: JudgeSettings, tokens: Tokens) -> float:
    """What so many tokens cost; nothing where the judge is free."""
    asked, answered = settings.usd_per_million_prompt_tokens or 0.0, settings.usd_per_million_completion_tokens or 0.0
    return (tokens.prompt * asked + tokens.completion * answered) / 1e6


def retry_after_s(headers: Mapping[str, str], now_us: int) -> float:
    """Seconds to wait, from a `Retry-After` header in seconds or as a date; 0 where it says nothing that makes sense."""
    value = headers.get("retry-after", "")
    try:
        wait_s = float(value)
    except ValueError:
        try:
            wait_s = float(parsedate_to_datetime(value).timestamp()) - now_us / 1e6
        except (ValueError, OverflowError):
            return 0.0
    return max(0.0, wait_s)


async def _body(response: Any) -> bytes:
    body = bytearray()
    async for chunk in response.iter_bytes():
        body += chunk
        if len(body) > MAX_ANSWER_BYTES:
            raise CallFailed("unparsable", f"the answer is longer than {MAX_ANSWER_BYTES:,} bytes", None, billed=True)
    return bytes(body)


def _completion(body: bytes) -> _Completion:
    try:
        return msgspec.json.decode(body.removeprefix(codecs.BOM_UTF8), type=_Completion)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise CallFailed("unparsable", f"the server's answer is no completion: {error}", None, billed=True) from None


def _used(completion: _Completion, prompt: Prompt, max_tokens: int) -> Tokens:
    """What the server says that it used; at worst, where it says nothing that makes sense."""
    try:
        usage = msgspec.convert(completion.usage, _Usage)
    except msgspec.ValidationError:
        return worst(prompt, max_tokens)
    return Tokens(usage.prompt_tokens, usage.completion_tokens)


def _answer(completion: _Completion, spent: Tokens) -> Answer:
    choice = completion.choices[0]
    if choice.message.refusal or choice.finish_reason == "content_filter":
        return Answer(spent, reason="refused", detail="the judge declined to answer")
    cut = choice.finish_reason == "length"
    text = choice.message.text
    if not text.strip() and not cut:  # a thought that was cut short is a draft
        text = choice.message.thought
    return Answer(spent, text=text, cut=cut)


def _said(error: openai.APIStatusError) -> str:
    """What a server said beside its status; openai's own text has only a message in the usual place."""
    return str(error) if " - " in str(error) or not error.body else f"{error} - {error.body}"


def _disconnected(error: Exception, address: str) -> CallFailed:
    """No connection, or one that broke: then the server may have worked for nothing."""
    cause = error.__cause__ or error
    never_sent = isinstance(
        cause, httpx2.ConnectError | httpx2.ConnectTimeout | httpx2.UnsupportedProtocol | ExceptionGroup
    )
    detail = f"{address}: {type(cause).__name__}: {cause}"
    if isinstance(cause, httpx2.TimeoutException) and not never_sent:
        return CallFailed("timeout", detail, 0.0, billed=True)
    return CallFailed("unreachable" if never_sent else "disconnected", detail, 0.0, billed=not never_sent)
