"""The processes that redact, and what becomes of those who ask them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from deploy.gateway import redaction_processes
from deploy.gateway.redaction import Redaction
from deploy.gateway.redaction_processes import RedactionProcesses, Unredactable
from feedback.intake.edge import Edge
from tests.deploy.gateway.test_redaction import EDGE, MANY, WORST
from tests.deploy.gateway.test_redaction import processes as processes
from tests.fakes import CLOCK, until


@pytest.fixture
async def hasty() -> AsyncIterator[RedactionProcesses]:
    processes = RedactionProcesses(CLOCK, processes=1, limit_s=0.05)
    yield processes
    await processes.close()


@pytest.mark.slow
async def test_what_takes_too_long_is_given_up_and_the_next_is_redacted(hasty: RedactionProcesses) -> None:
    redaction = Redaction(Edge(b"key"), CLOCK, hasty)
    with pytest.raises(Unredactable, match=r"within 0\.05 s"):
        await redaction.reply(WORST)
    hasty._all[0]._limit_s = 60
    assert await redaction.reply(MANY) == EDGE.reply(MANY)


@pytest.mark.slow
async def test_a_process_that_died_is_started_again(processes: RedactionProcesses) -> None:
    redaction = Redaction(Edge(b"key"), CLOCK, processes)
    await redaction.reply(MANY)
    first = processes._all[0]._process
    assert first is not None
    first.kill()
    await first.wait()
    assert await redaction.reply(MANY) == EDGE.reply(MANY)


@pytest.mark.slow
async def test_who_gives_up_leaves_no_answer_behind(processes: RedactionProcesses) -> None:
    redaction = Redaction(Edge(b"key"), CLOCK, processes)
    await redaction.reply(MANY)
    worst = asyncio.create_task(redaction.reply(WORST))
    await until(lambda: processes._idle.empty())
    worst.cancel()
    await asyncio.gather(worst, return_exceptions=True)
    assert await redaction.reply(MANY + "!") == EDGE.reply(MANY + "!")


async def test_no_more_wait_than_there_is_room_for() -> None:
    with pytest.raises(Unredactable, match="waiting"):
        await RedactionProcesses(CLOCK, max_waiting=0).redacted(b"")


async def test_who_waits_too_long_for_a_process_gets_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redaction_processes, "QUEUE_S", 0.01)
    with pytest.raises(Unredactable, match="no process was free"):
        await RedactionProcesses(CLOCK, processes=0).redacted(b"")


@pytest.mark.slow
async def test_closed_it_ends_its_processes_and_refuses(processes: RedactionProcesses) -> None:
    redaction = Redaction(Edge(b"key"), CLOCK, processes)
    await redaction.reply(MANY)
    process = processes._all[0]._process
    worst = asyncio.create_task(redaction.reply(WORST))
    await until(lambda: processes._idle.empty())
    await redaction.close()
    with pytest.raises(Unredactable):
        await worst
    assert process is not None
    assert process.returncode is not None
    with pytest.raises(Unredactable, match="stopping"):
        await redaction.reply(WORST)
    assert await redaction.reply("a@example.com") == "[email]"
