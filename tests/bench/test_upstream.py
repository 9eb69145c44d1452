"""The upstream of bench/gateway.py speaks as OpenAI does, and never says the same twice."""

from __future__ import annotations

import pytest
from openai import AsyncOpenAI

from bench.peers.rounds import Upstream
from bench.peers.upstream import MODEL, Replies, in_letters, take


def client(upstream: Upstream) -> AsyncOpenAI:
    return AsyncOpenAI(base_url=f"http://127.0.0.1:{upstream.port}/v1", api_key="any", max_retries=0)


@pytest.mark.slow
async def test_openais_client_reads_a_plain_reply(upstream: Upstream) -> None:
    async with client(upstream) as openai:
        reply = await openai.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "hi"}])
    assert reply.object == "chat.completion"
    assert reply.choices[0].finish_reason == "stop"
    assert len((reply.choices[0].message.content or "").split()) == 41
    assert reply.usage is not None
    assert reply.usage.completion_tokens == 40


@pytest.mark.slow
async def test_openais_client_reads_a_stream_and_the_usage_it_asked_for(upstream: Upstream) -> None:
    async with client(upstream) as openai:
        stream = await openai.chat.completions.create(
            model=MODEL,
            messages=[{"role": "user", "content": "hi"}],
            stream=True,
            stream_options={"include_usage": True},
        )
        chunks = [chunk async for chunk in stream]
    said = [chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices]
    assert len("".join(said).split()) == 41
    assert len([piece for piece in said if piece]) == 6
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "stop"
    assert chunks[-1].usage is not None


@pytest.mark.slow
async def test_openais_client_lists_the_model(upstream: Upstream) -> None:
    async with client(upstream) as openai:
        assert [model.id async for model in openai.models.list()] == [MODEL]


def test_no_two_replies_are_alike() -> None:
    replies = Replies(words=10, chunks=2)
    assert replies.plain(1) != replies.plain(2)
    assert b"".join(replies.stream(1, usage=True)) != b"".join(replies.stream(2, usage=True))
    assert len({in_letters(number) for number in range(1_000)}) == 1_000


@pytest.mark.parametrize(
    "raw",
    [
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello",
        b"POST /v1/chat/completions HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        b"GET /v1/models HTTP/1.1\r\nHost: x\r\n\r\n",
    ],
    ids=["length", "chunked", "no body"],
)
def test_a_request_is_taken_when_it_is_complete_and_the_next_one_is_left(raw: bytes) -> None:
    assert all(take(raw[:size]) is None for size in range(len(raw)))
    request = take(raw + b"POST /next")
    assert request is not None
    assert request.size == len(raw)
    assert request.body.count(b"hello") == (b"hello" in raw)
