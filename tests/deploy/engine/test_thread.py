"""The engine's thread when the gateway stops."""

from __future__ import annotations

import asyncio

import pytest

from deploy.engine.port import EngineFailed, NotReady, Reply, Sampling
from deploy.engine.thread import PARALLEL, EngineThread
from tests.fakes import FakeEngine, until


async def text(reply: Reply) -> str:
    return "".join([piece async for piece in reply])


async def test_when_it_drains_what_waits_is_refused_at_once_and_what_has_begun_goes_on() -> None:
    engine, thread = FakeEngine(), EngineThread(10)
    engine.go.clear()
    thread.start(engine)
    loop = asyncio.get_running_loop()
    replies = [Reply([{"role": "user", "content": "hi"}], None, Sampling(9), loop) for _ in range(PARALLEL + 1)]
    for reply in replies:
        thread.reserve()
        thread.put(reply)
    thread.reserve()
    *begun, waiting = [asyncio.create_task(text(reply)) for reply in replies]
    await until(lambda: engine.under_way == PARALLEL, "as many replies as take turns")
    thread.drain()
    with pytest.raises(EngineFailed) as refused:
        await waiting
    assert isinstance(refused.value.__cause__, NotReady)
    with pytest.raises(NotReady, match="stopping"):
        thread.put(replies[0])
    engine.go.set()
    assert [await reply for reply in begun] == PARALLEL * ["base says hello."]
    await asyncio.to_thread(thread.stop)
