"""Two gateways before the same engines: neither takes away what the other serves, and neither disturbs its base."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from deploy.engine.vllm.neighbours import Needs, Neighbours, wanted_by
from deploy.engine.vllm.plan import ZERO
from deploy.rules.assignment import Routing
from deploy.state import State, open_state
from models.adapters import engine_name
from tests.deploy.engine.replies import Desk
from tests.deploy.engine.vllm.fake_server import BASE
from tests.deploy.engine.vllm.speaking import Speaking, recorded_candidate
from tests.deploy.engine.vllm.test_engine import chat, engine
from tests.fakes import until

LOOKS = 5


@pytest.fixture
def state(tmp_path: Path) -> Iterator[State]:
    """A state directory with two gateways."""
    state = open_state(tmp_path)
    with state.play("gateway"), state.play("gateway"):
        yield state


@pytest.fixture(autouse=True)
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deploy.engine.vllm.engine.LOOK_S", 0.02)


def test_what_the_routing_names_comes_before_what_is_asked_for_by_name_at_whichever_gateway() -> None:
    assert wanted_by([Needs(("i",), ("x", "y")), Needs(("i", "c"), ("z",))]) == ["i", "c", "x", "y", "z"]


def test_each_hears_what_the_others_need_that_run(state: State) -> None:
    one, two, three = Needs(("i",)), Needs(("i",), ("x",), ("x",)), Needs(("gone",))
    first, second, gone = Neighbours(state, 1), Neighbours(state, 2), Neighbours(state, 3)
    assert gone.meet(three) == [three]
    assert first.meet(one) == [one]
    assert second.meet(two) == [one, two]
    assert first.meet(one) == [one, two]
    assert second.meet(Needs()) == [one, Needs()]


def test_one_that_has_ended_needs_nothing_whatever_it_left_written(tmp_path: Path) -> None:
    state = open_state(tmp_path)
    first, needs = Neighbours(state, 1), Needs(("i",))
    with ExitStack() as second, state.play("gateway"):
        seat = second.enter_context(state.play("gateway"))
        Neighbours(state, seat).meet(needs)
        assert first.meet(Needs()) == [Needs(), needs]
        second.close()
        assert first.meet(Needs()) == [Needs()]


def test_what_another_version_has_written_is_passed_over(state: State) -> None:
    Neighbours(state, 2).meet(Needs(("i",)))
    (state.adapters / ".gateway-2.json").write_text('{"routed": 7}')
    assert Neighbours(state, 1).meet(Needs()) == [Needs()]


async def looked_at(server: Speaking) -> None:
    """Once both have looked at it some times more."""

    def looks() -> int:
        return sum(path == "/health" for path, _ in server.asked)

    seen = looks()
    await until(lambda: looks() >= seen + 2 * LOOKS, "both to look again and again")


@pytest.mark.slow
async def test_an_adapter_that_is_asked_for_at_one_gateway_stays_beside_the_other(state: State) -> None:
    digest, record = recorded_candidate(state.candidates)
    server, name = Speaking(record), engine_name(digest)
    async with engine(state.candidates, Desk(), [server]) as one:
        assert await chat(one, digest, by_name=True) == name
        async with engine(state.candidates, Desk(), [server], seat=2) as other:
            await until(lambda: other.loaded == {digest})
            await looked_at(server)
            loads = [fields["lora_name"] for path, fields in server.asked if path == "/v1/load_lora_adapter"]
            assert loads.count(name) == 2, "once for each: it was not taken away meanwhile"
            assert not any(path == "/v1/unload_lora_adapter" for path, _ in server.asked)
            assert (await chat(other)).startswith(ZERO), (
                "its base is answered beside an adapter that it never asked for"
            )
            assert await chat(other, digest) == name


@pytest.mark.slow
async def test_a_gateway_that_starts_takes_nothing_away_before_it_knows_who_serves(state: State) -> None:
    digest, record = recorded_candidate(state.candidates)
    server, serving, not_known = Speaking(record), Desk(), Desk()
    serving.now, not_known.now = Routing(incumbent=digest), None
    async with engine(state.candidates, serving, [server]) as one:
        await until(lambda: one.loaded == {digest})
        async with engine(state.candidates, not_known, [server], seat=2):
            await looked_at(server)
            assert not any(path == "/v1/unload_lora_adapter" for path, _ in server.asked)
            assert one.loaded == {digest}


@pytest.mark.slow
async def test_what_neither_needs_any_more_goes(state: State) -> None:
    digest, record = recorded_candidate(state.candidates)
    server, first, second = Speaking(record), Desk(), Desk()
    first.now = second.now = Routing(incumbent=digest)
    async with (
        engine(state.candidates, first, [server]) as one,
        engine(state.candidates, second, [server], seat=2) as other,
    ):
        await until(lambda: one.loaded == other.loaded == {digest})
        first.now = Routing()
        await looked_at(server)
        assert engine_name(digest) in server.roots, "the other has not heard of it yet"
        second.now = Routing()
        await until(lambda: engine_name(digest) not in server.roots)


@pytest.mark.slow
async def test_a_reply_at_one_gateway_keeps_its_adapter_beside_the_other(state: State) -> None:
    digest, record = recorded_candidate(state.candidates)
    server, first, second, name = Speaking(record), Desk(), Desk(), engine_name(digest)
    first.now = second.now = Routing(incumbent=digest)
    async with (
        engine(state.candidates, first, [server]) as one,
        engine(state.candidates, second, [server], seat=2) as other,
    ):
        await until(lambda: one.loaded == other.loaded == {digest})
        server.slow[name] = asyncio.Event()
        replying = asyncio.create_task(chat(one, digest))
        await until(lambda: name in server.chats)
        first.now = second.now = Routing()
        await looked_at(server)
        assert name in server.roots
        server.slow[name].set()
        assert await replying == name
        await until(lambda: name not in server.roots)


@pytest.mark.slow
async def test_a_gateway_that_starts_while_another_loads_a_first_adapter_never_asks_for_the_bare_base(
    state: State,
) -> None:
    digest, record = recorded_candidate(state.candidates)
    server, asked = Speaking(record), Desk()
    server.loading[engine_name(digest)] = loads = asyncio.Event()
    async with engine(state.candidates, asked, [server]) as one:
        asked.now = Routing(incumbent=digest)
        await until(lambda: not server.loading)
        async with engine(state.candidates, Desk(), [server], seat=2) as other:
            assert (await chat(other)).startswith(ZERO), "from its first look on"
            loads.set()
            await until(lambda: one.loaded == other.loaded == {digest})


@pytest.mark.slow
async def test_no_adapter_joins_a_reply_by_the_others_bare_base(state: State) -> None:
    digest, record = recorded_candidate(state.candidates)
    server, asked = Speaking(record), Desk()
    async with (
        engine(state.candidates, asked, [server]) as one,
        engine(state.candidates, Desk(), [server], seat=2) as other,
    ):
        server.slow[BASE] = asyncio.Event()
        replying = asyncio.create_task(chat(other))
        await until(lambda: BASE in server.chats)
        await looked_at(server)
        asked.now = Routing(incumbent=digest)
        await until(lambda: str(one.state()[0]["base"]).startswith(ZERO))
        await looked_at(server)
        assert engine_name(digest) not in server.roots
        server.slow[BASE].set()
        assert await replying == BASE
        await until(lambda: one.loaded == {digest})
