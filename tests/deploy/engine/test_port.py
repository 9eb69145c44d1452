"""A reply as an asynchronous stream: it ends however the engine ends, and knows how afterwards."""

from __future__ import annotations

import asyncio

import pytest

from deploy.engine.adapters import LocalEngines
from deploy.engine.leases import Lease, Leases
from deploy.engine.port import EngineFailed, Reply
from tests.deploy.engine.replies import HELLO, SAMPLING, A, begin, text


async def test_a_reply_streams_and_then_knows_how_it_ended(engines: LocalEngines) -> None:
    reply = await begin(engines)
    assert await text(reply) == "base says hello."
    assert (reply.finish_reason, reply.prompt_tokens, reply.completion_tokens) == ("stop", 7, 4)


def fresh(loop: asyncio.AbstractEventLoop, lease: Lease | None = None) -> Reply:
    return Reply(HELLO, lease, SAMPLING, loop)


async def test_what_the_engines_thread_said_before_it_failed_is_read_before_the_failure() -> None:
    reply, said = fresh(asyncio.get_running_loop()), list[str]()

    def fail() -> None:
        for word in ("Hello", ", "):
            reply.put(word)
        reply.end(RuntimeError("out of memory"))

    await asyncio.to_thread(fail)

    async def listen() -> None:
        async for piece in reply:
            said.append(piece)

    with pytest.raises(EngineFailed) as raised:
        await listen()
    assert said == ["Hello", ", "]
    assert "memory" not in str(raised.value)


async def test_a_reply_holds_its_adapter_until_the_engine_has_ended_it_whoever_cancelled_it() -> None:
    leases = Leases()
    reply = fresh(asyncio.get_running_loop(), leases.take(A))
    reply.cancel()
    assert (reply.adapter, leases.held(A)) == (A, True)
    reply.end()
    assert not leases.held(A)
    assert await text(reply) == ""


def test_a_reply_that_nobody_listens_to_any_more_is_cancelled_and_gives_its_adapter_back() -> None:
    loop, leases = asyncio.new_event_loop(), Leases()
    reply = fresh(loop, leases.take(A))
    loop.close()
    assert not reply.cancelled.is_set()
    reply.put("Hello")
    assert reply.cancelled.is_set()
    reply.end()
    assert not leases.held(A)
