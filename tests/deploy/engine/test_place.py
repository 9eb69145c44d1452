"""A request's place in the line: however the request ends, its place and its adapter are given back."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest

from deploy.engine.adapters import LocalEngines
from deploy.engine.loaded import LoadedAdapters
from deploy.engine.place import LocalPlace
from deploy.engine.port import EngineFailed, NotReady, Overloaded, Unsupported
from deploy.engine.thread import EngineThread
from deploy.rules.assignment import Routing
from tests.deploy.engine.replies import A, B, C, Desk, begin, request, text
from tests.fakes import FakeEngine, ManualClock, until


async def test_an_adapter_that_a_request_has_chosen_stays_before_its_reply_is_in_the_line(
    engines: LocalEngines, engine: FakeEngine, desk: Desk
) -> None:
    with engines.admit() as place:
        assert await place.hold(A)
        desk.now = Routing(incumbent=B)
        await until(lambda: B in engines.loaded)
        assert A in engine.adapters
        assert await text(place.begin(request()).reply) == "aaaa says hello."
    await until(lambda: engine.adapters == {B})


@pytest.mark.parametrize("ending", ["told", "cancelled in the line", "failed", "never begun"])
async def test_however_a_request_ends_it_gives_its_adapter_and_its_place_back(
    engines: LocalEngines, engine: FakeEngine, desk: Desk, ending: str
) -> None:
    engine.breaks_after = 1 if ending == "failed" else None
    for _ in range(5):  # more than there are places
        with engines.admit() as place:
            assert await place.hold(A)
            if ending == "never begun":
                continue
            reply = place.begin(request()).reply
            if ending == "cancelled in the line":
                reply.cancel()
            with suppress(EngineFailed):
                await text(reply)
    desk.now = Routing(incumbent=B)
    await until(lambda: engine.adapters == {B})


async def test_of_two_adapters_tried_only_the_second_is_kept(
    engines: LocalEngines, engine: FakeEngine, desk: Desk
) -> None:
    engine.broken = {C}
    with engines.admit() as place:
        assert await place.hold(A)
        assert not await place.hold(C)
        assert await place.hold(B)
        desk.now = Routing()
        await until(lambda: engine.adapters == {B})


async def test_a_place_that_is_kept_counts_as_waiting(engines: LocalEngines) -> None:
    with engines.admit(), engines.admit(), pytest.raises(Overloaded, match="2 requests"):
        engines.admit()
    assert await text(await begin(engines)) == "base says hello."


async def test_who_comes_to_begin_as_the_gateway_stops_gives_place_and_adapter_back(
    engine: FakeEngine, tmp_path: Path
) -> None:
    thread, adapters = EngineThread(1), LoadedAdapters(engine, tmp_path, Routing, ManualClock())
    thread.reserve()
    with LocalPlace(engine, thread, adapters, 20) as place:
        assert await place.hold(A)
        thread.stop()
        with pytest.raises(NotReady, match="stopping"):
            place.begin(request())
    await adapters.follow(Routing())
    assert engine.adapters == set()


async def test_a_chat_that_does_not_fit_the_base_is_told_before_it_takes_its_turn(
    engines: LocalEngines, engine: FakeEngine
) -> None:
    engine.refuses = "the chat template takes no system message"
    with engines.admit() as place, pytest.raises(Unsupported, match="takes no system message"):
        await place.check(request())
    assert engine.asked == []
