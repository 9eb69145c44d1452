"""Who answers: arms and adapters as the routing says, whatever happens to it at the same moment."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from deploy.control import schema
from deploy.control.store import Control
from deploy.decisions.operations import Operations
from deploy.engine.adapters import LocalEngines
from deploy.gateway.breaker import Away
from deploy.gateway.control_link import ControlLink
from deploy.gateway.dispatch import Dispatcher
from deploy.gateway.event_log import EventLog, Outbox
from deploy.gateway.live_turn import RETRY_S, LiveTurn
from deploy.gateway.redaction import Redaction
from deploy.gateway.shadowing import ShadowTurns
from deploy.gateway.spool import Spool
from deploy.gateway.turn_ids import TurnIds
from deploy.rules.assignment import Exposure, Routing
from deploy.serving_settings import GatewaySettings
from deploy.settings import Settings
from deploy.web.callers import Caller
from deploy.web.errors import ApiError
from feedback.intake.edge import Edge
from tests.deploy.gateways import canary, caught_up
from tests.fakes import BASE, CLOCK, PACE_S, FakeEngine, FakeGeneration, MemoryProducer, until

A, B = "a" * 64, "b" * 64
CALLER = Caller("t", frozenset({"chat"}))


class Desk:
    """Serves what `now` says."""

    def __init__(self) -> None:
        self.now = Routing()

    def routing(self) -> Routing:
        return self.now

    async def expose(self, tenant: str, conversation_id: str, unit: str, now_us: int) -> Exposure:
        return Exposure(self.now.policy("incumbent"))


@asynccontextmanager
async def dispatching(
    desk: Any, engine: FakeEngine, folder: Path, queue: int = 64, outbox: Outbox | None = None, **options: Any
) -> AsyncIterator[Dispatcher]:
    engines = LocalEngines(lambda: BASE, folder, desk, queue=queue, make=lambda _: engine, clock=CLOCK)
    redaction = Redaction(Edge(b"key"), CLOCK)
    events = EventLog(outbox or MemoryProducer(), CLOCK, redaction)
    await engines.start()
    await until(lambda: engines.ready() is None)
    shadow = ShadowTurns(Settings(), desk, engines, redaction, CLOCK)
    yield Dispatcher(GatewaySettings(queue=queue, **options), desk, engines, events, TurnIds(b"key"), shadow, CLOCK)
    engine.go.set()
    await engines.stop()


@pytest.fixture
async def link(control: Control) -> AsyncIterator[ControlLink]:
    link = ControlLink(control, CLOCK)
    await link.start()
    await until(lambda: link.missing() is None)
    yield link
    await link.stop()


async def start(dispatcher: Dispatcher, conversation: str = "c", **options: Any) -> LiveTurn:
    body = {"model": "trimtab", "messages": [{"role": "user", "content": "Hello"}], **options}
    return await dispatcher.start(CALLER, body, conversation)


async def told(turn: LiveTurn) -> str:
    return "".join([document["choices"][0]["message"]["content"] for document in await turn.news()])


class SlowEngine(FakeEngine):
    """Reads the prompt, which takes its time, before it looks for the adapter, as real ones do."""

    def generate(self, *arguments: Any, **options: Any) -> FakeGeneration:
        time.sleep(PACE_S)
        return super().generate(*arguments, **options)


async def test_no_reply_fails_while_the_routing_switches_back_and_forth(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deploy.engine.adapters.LOOK_S", 0.0)
    desk, engine = Desk(), SlowEngine()
    async with dispatching(desk, engine, tmp_path) as dispatcher:
        enough = asyncio.Event()

        async def chat(number: int) -> None:
            while not enough.is_set():
                turn = await start(dispatcher, f"c-{number}")
                said = await told(turn)
                assert turn.error is None
                assert said.startswith((turn.plan.adapter or "base")[:4])

        async def switch() -> None:
            try:
                for digest in (A, B) * 3:
                    desk.now = Routing(incumbent=digest)
                    await until(lambda digest=digest: set(dispatcher.engine.loaded) == {digest}, "the other unloaded")  # type: ignore[misc]
            finally:
                enough.set()

        await asyncio.gather(switch(), *[chat(number) for number in range(12)])
        assert engine.loads.count(A) > 1


def assignments(control: Control) -> list[str]:
    with control.read() as tx:
        return sorted(tx.connection.execute(select(schema.assignments.c.conversation_id)).scalars())


async def test_a_request_that_is_refused_because_too_many_wait_is_not_assigned_to_an_arm(
    link: ControlLink, control: Control, judged_rules: Operations, folder: Path
) -> None:
    canary(judged_rules, folder)
    await caught_up(link, control)
    engine = FakeEngine()
    async with dispatching(link, engine, folder, queue=1) as dispatcher:
        engine.go.clear()
        turns = [await start(dispatcher, "first")]
        await until(lambda: engine.under_way == 1)
        turns += [await start(dispatcher, "second")]
        with pytest.raises(ApiError, match="1 requests are waiting") as refused:
            await start(dispatcher, "refused")
        assert refused.value.status == 429
        engine.go.set()
        assert [bool(await told(turn)) for turn in turns] == [True, True]
    assert assignments(control) == ["first", "second"]


async def test_a_request_that_the_chat_template_does_not_take_is_not_assigned_to_an_arm(
    link: ControlLink, control: Control, judged_rules: Operations, folder: Path
) -> None:
    canary(judged_rules, folder)
    await caught_up(link, control)
    engine = FakeEngine()
    engine.refuses = "roles must alternate"
    async with dispatching(link, engine, folder) as dispatcher:
        with pytest.raises(ApiError, match="roles must alternate") as refused:
            await start(dispatcher)
        assert (refused.value.status, refused.value.param) == (400, "messages")
    assert assignments(control) == []


async def test_a_request_to_a_gateway_that_stops_is_not_assigned_to_an_arm(
    link: ControlLink, control: Control, judged_rules: Operations, folder: Path
) -> None:
    canary(judged_rules, folder)
    await caught_up(link, control)
    async with dispatching(link, FakeEngine(), folder) as dispatcher:
        await dispatcher.engine.stop()
        with pytest.raises(ApiError, match="stopping") as refused:
            await start(dispatcher)
        assert (refused.value.status, refused.value.retry_after_s) == (503, RETRY_S)
    assert assignments(control) == []


async def test_before_the_control_database_was_ever_read_chats_are_told_to_come_back(tmp_path: Path) -> None:
    class Unread(Desk):
        async def expose(self, *_: Any) -> Exposure:
            raise Away("the control database can't be used at the moment")

    async with dispatching(Unread(), FakeEngine(), tmp_path) as dispatcher:
        with pytest.raises(ApiError, match="control database") as refused:
            await start(dispatcher)
        assert (refused.value.status, refused.value.code, refused.value.retry_after_s) == (503, "not_ready", RETRY_S)


@pytest.mark.parametrize("stream", [True, False])
async def test_a_request_that_a_full_disk_refuses_is_not_assigned_to_an_arm(
    link: ControlLink, control: Control, judged_rules: Operations, folder: Path, tmp_path: Path, stream: bool
) -> None:
    canary(judged_rules, folder)
    await caught_up(link, control)
    spool, engine = Spool(tmp_path / "spool.db", 1_000_000, CLOCK, free=lambda: 0.0), FakeEngine()
    async with dispatching(link, engine, folder, outbox=spool, on_full="refuse") as dispatcher:
        with pytest.raises(ApiError, match="event log") as refused:
            await start(dispatcher, stream=stream)
        assert (refused.value.status, refused.value.code) == (503, "not_logged")
    async with dispatching(link, engine, folder, outbox=spool, on_full="drop") as dispatcher:
        assert (await start(dispatcher, "served all the same")).error is None
        await until(lambda: bool(engine.asked), "the engine's thread to be asked")
    assert assignments(control) == ["served all the same"]
    assert len(engine.asked) == 1
    await spool.close()
