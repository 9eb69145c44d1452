"""An unmodified OpenAI client, through the gateway and directly to vLLM's own chat endpoint: the same, but for what is ours.

Ours are id, fingerprint and headers, and the model's name, which is another for each. The time is each answer's own, and so is
the id of a call, which vLLM draws.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI

from deploy.control.store import Control, open_control
from models.loading import load_chat
from tests.deploy.engine.replies import Desk
from tests.deploy.gateways import running
from tests.engine import chats
from tests.engine.conftest import Trained
from tests.engine.server import SERVED_AS, Vllm
from tests.openai_answers import plainly

HELLO: Any = [{"role": "user", "content": "Hello, where is my parcel?"}]
WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "weather",
        "strict": True,
        "parameters": {"type": "object", "properties": {"city": {"enum": ["Graz", "Ulm"]}}, "required": ["city"]},
    },
}
SCHEMA: Any = {
    "type": "json_schema",
    "json_schema": {"name": "Report", "schema": WEATHER["function"]["parameters"], "strict": True},
}
OURS = {"id", "system_fingerprint", "model", "created"}


@dataclass
class Both:
    """The two ways to the server."""

    direct: AsyncOpenAI
    through: AsyncOpenAI

    async def same(self, call: Callable[[AsyncOpenAI, str], Awaitable[Any]]) -> Any:
        """What the call gives, which has to be the same both ways."""
        directly = await call(self.direct, SERVED_AS)
        through = await call(self.through, "trimtab")
        assert plain(through) == plain(directly)
        return through


def plain(answer: Any) -> Any:
    """As plain JSON, without what is ours, or drawn for each call of a function."""
    return plainly(answer, lambda found: OURS if "choices" in found else {"id"} if "function" in found else ())


@pytest.fixture
def control(tmp_path: Path) -> Any:
    opened = open_control(tmp_path / "control.db")
    yield opened
    opened.close()


@pytest.fixture
async def both(server: Vllm, trained: Trained, control: Control, tmp_path: Path) -> AsyncIterator[Both]:
    async with AsyncExitStack() as stack:
        engine = chats.made([server], trained, Desk(), tmp_path, "always")
        gateway = await stack.enter_async_context(running(control, tmp_path, opened=engine))
        direct = await stack.enter_async_context(AsyncOpenAI(base_url=f"{server.url}/v1", api_key="x", max_retries=0))
        yield Both(direct, gateway.openai())


def asked(model: str, more: dict[str, Any]) -> dict[str, Any]:
    """A request with one right answer."""
    return {"model": model, "messages": HELLO, "temperature": 0, "seed": 7, "max_tokens": 24} | more


PARAMETERS: dict[str, dict[str, Any]] = {
    "nothing more": {},
    "a conversation": {
        "messages": [
            {"role": "system", "content": "Be kind."},
            *HELLO,
            {"role": "assistant", "content": "Which?"},
            *HELLO,
        ]
    },
    "no limit": {"max_tokens": None},
    "a tool that it may call": {"tools": [WEATHER], "tool_choice": "auto"},
    "a schema": {"response_format": SCHEMA},
    "two choices": {"n": 2, "temperature": 1.0},
    "logprobs": {"logprobs": True, "top_logprobs": 3},
    "sampling": {"temperature": 0.8, "top_p": 0.9, "stop": ["e"], "presence_penalty": 0.1, "logit_bias": {"30": -100}},
    "what only vLLM has": {"extra_body": {"top_k": 5, "min_p": 0.1, "return_token_ids": True, "min_tokens": 3}},
    "what is said to us": {"metadata": {"team": "support"}, "user": "ann"},
}


@pytest.mark.parametrize("more", PARAMETERS.values(), ids=list(PARAMETERS))
async def test_a_whole_answer_is_the_same(both: Both, more: dict[str, Any]) -> None:
    async def ask(client: AsyncOpenAI, model: str) -> Any:
        return await client.chat.completions.create(**asked(model, more))

    answer = await both.same(ask)
    assert answer.usage.completion_tokens > 0


@pytest.mark.parametrize("usage", [True, False], ids=["with usage", "without"])
@pytest.mark.parametrize("more", PARAMETERS.values(), ids=list(PARAMETERS))
async def test_a_streamed_answer_is_the_same(both: Both, more: dict[str, Any], usage: bool) -> None:
    async def ask(client: AsyncOpenAI, model: str) -> Any:
        options: Any = {"stream_options": {"include_usage": True}} if usage else {}
        stream = await client.chat.completions.create(**asked(model, more), **options, stream=True)
        return by_choice([plain(chunk) async for chunk in stream])

    told = await both.same(ask)
    assert ("usage" in told) == usage


def by_choice(chunks: list[dict[str, Any]]) -> dict[Any, Any]:
    """By choice all that was told of it: how many tokens come in one chunk, and whose, depends on the moment."""
    told: dict[Any, Any] = {}
    for chunk in chunks:
        if (usage := chunk.pop("usage", None)) is not None:
            told["usage"] = usage
        for choice in chunk.pop("choices"):
            told[choice["index"]] = merged(told.get(choice["index"], {}), choice)
        told["beside"] = merged(told.get("beside", {}), chunk)
    return told


def merged(one: Any, other: Any) -> Any:
    """What two chunks tell together: texts and lists go on, what else is told again stays as it is."""
    match one, other:
        case dict(), dict():
            keep = {"object", "role", "type", "index"}
            return one | {n: v if n in keep or n not in one else merged(one[n], v) for n, v in other.items()}
        case list(), [{"index": int(index)} as part] if len(one) > index:  # a piece of a tool's call
            return [*one[:index], merged(one[index], part), *one[index + 1 :]]
        case (str(), str()) | (list(), list()):
            return one + other
    return one if other is None else other


@pytest.mark.parametrize(
    "choice", ["required", {"type": "function", "function": {"name": "weather"}}], ids=["any", "it"]
)
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
async def test_a_call_of_a_tool_is_the_same(both: Both, trained: Trained, choice: Any, stream: bool) -> None:
    tokenizer = load_chat(trained.base).tokenizer
    blank = {str(number): -100 for number in tokenizer.get_vocab().values() if tokenizer.decode([number]).isspace()}
    more = {"tools": [WEATHER], "tool_choice": choice, "max_tokens": 85, "logit_bias": blank}

    async def ask(client: AsyncOpenAI, model: str) -> Any:
        answer = await client.chat.completions.create(**asked(model, more), stream=stream)
        return by_choice([plain(chunk) async for chunk in answer])[0] if stream else answer.choices[0].to_dict()

    answer = await both.same(ask)
    assert answer["message" if not stream else "delta"]["tool_calls"][0]["function"]["name"] == "weather"


async def test_the_streaming_helper_tells_the_same(both: Both) -> None:
    async def ask(client: AsyncOpenAI, model: str) -> Any:
        async with client.chat.completions.stream(**asked(model, {})) as stream:
            kinds = {event.type async for event in stream}
            return [sorted(kinds), await stream.get_final_completion()]

    await both.same(ask)


async def test_the_raw_response_is_the_same_with_headers_of_ours(both: Both) -> None:
    headers: list[dict[str, str]] = []

    async def ask(client: AsyncOpenAI, model: str) -> Any:
        raw = await client.chat.completions.with_raw_response.create(**asked(model, {}))
        headers.append(dict(raw.headers))
        return [raw.status_code, raw.parse()]

    _, answer = await both.same(ask)
    theirs, ours = headers
    assert ours["x-trimtab-turn"] == answer.id
    assert ours["content-type"] == theirs["content-type"] == "application/json"


REFUSED: dict[str, dict[str, Any]] = {
    "a value that is none": {"temperature": -1},
    "a kind of format that is none": {"response_format": {"type": "poem"}},
    "too many likeliest tokens": {"logprobs": True, "top_logprobs": 50},
    "a prompt that is too long": {"messages": [{"role": "user", "content": "Where is it? " * 200}]},
    "two choices of one": {"n": 2},
    "a tool that was not told of": {"tools": [WEATHER], "tool_choice": {"type": "function", "function": {"name": "x"}}},
}


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("more", REFUSED.values(), ids=list(REFUSED))
async def test_what_it_refuses_is_told_as_it_said_it(both: Both, more: dict[str, Any], stream: bool) -> None:
    async def ask(client: AsyncOpenAI, model: str) -> Any:
        try:
            answer = await client.chat.completions.create(**asked(model, more), stream=stream)
            return by_choice([plain(chunk) async for chunk in answer]) if stream else answer
        except (
            openai.APIError
        ) as error:  # in a stream vLLM says some as its first event; that is a status by the gateway
            return [type(error).__name__] * (not stream) + [error.body]

    assert (await both.same(ask))[-1]["code"] == 400
