"""The local engine's text as OpenAI's documents, whole and in pieces, however it ends."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace
from structlog.testing import capture_logs

from deploy.engine.adapters import LocalEngines
from deploy.engine.local_answer import LocalAnswer
from deploy.engine.port import EngineFailed, Unsupported
from models.errors import JobFailed
from tests.deploy.engine.replies import A, request
from tests.fakes import FakeEngine, FakeGeneration, until

USAGE = {"prompt_tokens": 7, "completion_tokens": 4, "total_tokens": 11}


def answer(engines: LocalEngines, *, stream: bool, **more: Any) -> LocalAnswer:
    with engines.admit() as place:
        return place.begin(replace(request(**more), stream=stream))


async def told(answer: LocalAnswer, documents: list[dict[str, Any]] | None = None) -> list[dict[str, Any]]:
    documents = [] if documents is None else documents
    async for document in answer:
        documents.append(document)
    return documents


async def test_a_whole_answer_is_one_completion(engines: LocalEngines) -> None:
    assert await told(answer(engines, stream=False)) == [
        {
            "choices": [
                {
                    "index": 0,
                    "message": {"role": "assistant", "content": "base says hello.", "refusal": None},
                    "logprobs": None,
                    "finish_reason": "stop",
                }
            ],
            "usage": USAGE,
        }
    ]


async def test_a_stream_names_the_role_first_then_says_its_pieces_its_end_and_what_it_cost(
    engines: LocalEngines,
) -> None:
    *pieces, cost = await told(answer(engines, stream=True))
    assert [piece["choices"][0]["delta"] for piece in pieces] == [
        {"role": "assistant", "content": ""},
        {"content": "base"},
        {"content": " says"},
        {"content": " hello"},
        {"content": "."},
        {},
    ]
    assert [piece["choices"][0]["finish_reason"] for piece in pieces] == [None] * 5 + ["stop"]
    assert cost == {"choices": [], "usage": USAGE}


@pytest.mark.parametrize("stream", [True, False])
async def test_what_was_said_before_it_broke_is_told_before_the_failure(
    engines: LocalEngines, engine: FakeEngine, stream: bool
) -> None:
    engine.breaks_after = 2
    documents: list[dict[str, Any]] = []
    with capture_logs() as lines, pytest.raises(EngineFailed, match="try again"):
        await told(answer(engines, stream=stream), documents)
    said = [(one["choices"][0].get("delta") or one["choices"][0].get("message"))["content"] for one in documents]
    assert "".join(said) == "base says"
    assert {one["choices"][0]["finish_reason"] for one in documents} == {None}
    assert [(line["event"], line["error"]) for line in lines] == [("engine_failed", "RuntimeError")]


async def test_messages_that_the_base_can_not_be_given_are_the_clients_to_mend(
    engines: LocalEngines, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise JobFailed("two users in a row")

    monkeypatch.setattr(engine, "generate", refuse)
    with pytest.raises(Unsupported, match="two users") as raised:
        await told(answer(engines, stream=True))
    assert raised.value.param == "messages"


async def test_what_waits_when_the_gateway_drains_is_not_ready(engines: LocalEngines, engine: FakeEngine) -> None:
    engine.go.clear()
    under_way = answer(engines, stream=False)
    await until(lambda: engine.under_way == 1)
    waiting = answer(engines, stream=False)
    engines.drain()
    engine.go.set()
    with pytest.raises(EngineFailed, match="stopping") as raised:
        await told(waiting)
    assert (raised.value.status, raised.value.code) == (503, "not_ready")
    assert len(await told(under_way)) == 1


async def test_cancelled_it_ends_without_an_end(engines: LocalEngines, engine: FakeEngine) -> None:
    engine.endless = True
    under_way = answer(engines, stream=True, max_tokens=1_000_000)
    documents = aiter(under_way)
    await anext(documents)
    await anext(documents)
    under_way.cancel()
    rest = [document async for document in documents]
    assert all(document["choices"][0]["finish_reason"] is None for document in rest)
    await until(lambda: engine.under_way == 0)


async def test_it_is_by_the_adapter_that_was_held(engines: LocalEngines) -> None:
    with engines.admit() as place:
        assert await place.hold(A)
        by_adapter = place.begin(request())
    assert (await told(by_adapter))[0]["choices"][0]["message"]["content"] == "aaaa says hello."


@pytest.mark.parametrize("stream", [True, False])
async def test_nothing_is_told_before_the_engine_has_begun(
    engines: LocalEngines, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch, stream: bool
) -> None:
    """What fails in the line or at once then fails with a status, not within a stream."""
    monkeypatch.setattr(engine, "breaks_after", 0)
    documents: list[dict[str, Any]] = []
    with pytest.raises(EngineFailed):
        await told(answer(engines, stream=stream), documents)
    assert [one for one in documents if "delta" in one["choices"][0]] == []


async def test_a_stream_that_says_nothing_names_the_role_all_the_same(
    engines: LocalEngines, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FakeGeneration, "__next__", at_once)
    role, end, _ = await told(answer(engines, stream=True))
    assert (role["choices"][0]["delta"], end["choices"][0]["finish_reason"]) == (
        {"role": "assistant", "content": ""},
        "stop",
    )


def at_once(generation: FakeGeneration) -> str:
    generation.finish_reason = "stop"
    generation.close()
    raise StopIteration
