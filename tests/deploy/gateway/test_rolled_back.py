"""Replies under way when their adapter is taken back, and engines that run out of memory: through the whole gateway."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import openai
import pytest
from prometheus_client import REGISTRY

from deploy.control.store import Control
from deploy.decisions.operations import Operations
from models.adapters import engine_name
from tests.deploy.gateways import Gateway, canary, incumbent, running
from tests.fakes import until

pytestmark = pytest.mark.slow
HELLO: Any = [{"role": "user", "content": "Hello"}]
WORDS = [f" {number}" for number in range(200)]


@pytest.fixture
async def gateway(control: Control, folder: Path) -> AsyncIterator[Gateway]:
    async with running(control, folder) as gateway:
        yield gateway


async def conversation_of(gateway: Gateway, digest: str) -> str:
    """One that this adapter answers."""
    client = gateway.openai()
    for number in range(40):
        reply = await client.chat.completions.create(
            model="trimtab", messages=HELLO, metadata={"conversation_id": f"c-{number}"}
        )
        if reply.system_fingerprint == digest:
            return f"c-{number}"
    raise AssertionError("of forty conversations none came to the candidate")


async def streamed(client: openai.AsyncOpenAI, metadata: dict[str, str]) -> tuple[str | None, str]:
    """By whom a reply was, and what it said."""
    stream = await client.chat.completions.create(
        model="trimtab", messages=HELLO, metadata=metadata, stream=True, max_tokens=1_000
    )
    chunks = [chunk async for chunk in stream]
    return chunks[0].system_fingerprint, "".join(chunk.choices[0].delta.content or "" for chunk in chunks)


def roll_back(rules: Operations) -> None:
    rules.rollback(actor="ada", reason="it swears")


def supersede(rules: Operations) -> None:
    """It becomes the incumbent, and that is taken back."""
    while rules.serving()["rollout"]:
        rules.promote(actor="ada")
    rules.rollback(actor="ada", incumbent=True)


@pytest.mark.parametrize("end", [roll_back, supersede])
async def test_an_adapter_that_is_taken_back_stays_until_the_last_reply_by_it_has_ended(
    gateway: Gateway, judged_rules: Operations, folder: Path, end: Callable[[Operations], None]
) -> None:
    old, new = incumbent(judged_rules, folder, 1), canary(judged_rules, folder, 2)
    await gateway.caught_up()
    metadata = {"conversation_id": await conversation_of(gateway, new)}
    gateway.engine.words = WORDS
    gateway.engine.go.clear()
    client = gateway.openai()
    replying = asyncio.create_task(streamed(client, metadata))
    await until(lambda: gateway.engine.under_way == 1, "a reply by it")
    end(judged_rules)
    await gateway.caught_up()
    unnamed = {"adapter": engine_name(new), "role": "by_name"}
    await until(lambda: REGISTRY.get_sample_value("trimtab_adapter_info", unnamed) == 1, "it is not named any more")
    assert new in gateway.engine.adapters
    gateway.engine.go.set()
    assert await replying == (new, "".join([new[:4], *WORDS]))
    await until(lambda: gateway.engine.adapters == {old}, "the last reply by it has ended")
    after = await client.chat.completions.create(model="trimtab", messages=HELLO, metadata=metadata)
    assert after.system_fingerprint == old
    assert [event.get("outcome", "ok") for event in gateway.events()][-2:] == ["ok", "ok"]


async def test_an_engine_that_runs_out_of_memory_over_a_reply_is_that_arms_error_and_goes_on(
    gateway: Gateway, judged_rules: Operations, folder: Path
) -> None:
    incumbent(judged_rules, folder, 1)
    new = canary(judged_rules, folder, 2)
    await gateway.caught_up()
    metadata = {"conversation_id": await conversation_of(gateway, new)}
    gateway.engine.breaks_after = 1
    client = gateway.openai()
    with pytest.raises(openai.APIStatusError):
        await client.chat.completions.create(model="trimtab", messages=HELLO, metadata=metadata)
    gateway.engine.breaks_after = None
    failed = gateway.events()[-1]
    assert (failed["outcome"], failed["rollout"]["arm"], failed["policy"]) == ("error", "candidate", new)
    reply = await client.chat.completions.create(model="trimtab", messages=HELLO, metadata=metadata)
    assert reply.system_fingerprint == new
