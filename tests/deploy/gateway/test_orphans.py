"""What a gateway that died has left is sent by one that lives, each once, in its order; and commands can tell of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path

import pytest

from deploy.gateway.orphans import LOOK_S, abandoned, take_over, waiting
from deploy.gateway.spool import RUN, Spool, SpoolFull
from deploy.state import State, open_state
from feedback.intake.edge import Record
from tests.fakes import CLOCK, ManualClock, MemoryProducer, until

ROOM = 10_000_000


@pytest.fixture
def state(tmp_path: Path) -> State:
    return open_state(tmp_path)


def record(name: str) -> Record:
    return Record("turns.served", name.encode(), b"x", (("header", b"\x00"),))


async def left_by(state: State, seat: int, *names: str, held: Sequence[str] = ()) -> None:
    """As one on that seat leaves it that is killed."""
    (state.root / "locks" / ("gateway" if seat == 1 else f"gateway-{seat}")).touch()
    spool = Spool(state.spool(seat), ROOM, CLOCK)
    if names:
        await spool.send([record(name) for name in names])
    for name in held:
        await spool.hold(name, record(name))
    await spool.close()


@asynccontextmanager
async def taking_over(state: State, outbox: MemoryProducer, clock: ManualClock) -> AsyncIterator[None]:
    task = asyncio.create_task(take_over(state, outbox, clock))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@contextmanager
def gateways(state: State, number: int) -> Iterator[list[ExitStack]]:
    """So many run."""
    stacks = [ExitStack() for _ in range(number)]
    for stack in stacks:
        stack.enter_context(state.play("gateway"))
    yield stacks
    for stack in stacks:
        stack.close()


def keys(outbox: MemoryProducer) -> list[bytes]:
    return [sent.key for sent in outbox.records]


async def test_what_a_dead_gateway_left_is_moved_in_its_order_with_what_it_held_and_is_gone_from_there(
    state: State,
) -> None:
    names = [f"{number}" for number in range(RUN + 3)]
    await left_by(state, 2, *names, held=["under way"])
    outbox = MemoryProducer()
    with gateways(state, 1):
        assert waiting(state) == {"spool-2.db": RUN + 4}
        async with taking_over(state, outbox, ManualClock()):
            await until(lambda: not state.seated(2) and waiting(state) == {})
    assert keys(outbox) == [name.encode() for name in [*names, "under way"]]
    assert outbox.records[0] == record("0")


async def test_the_spool_of_a_gateway_that_runs_is_its_own(state: State) -> None:
    await left_by(state, 1, "a")
    await left_by(state, 2, "b")
    outbox, clock = MemoryProducer(), ManualClock()
    with gateways(state, 2) as (_, second):
        assert (abandoned(state), waiting(state)) == ([], {})
        async with taking_over(state, outbox, clock):
            await until(lambda: clock.waiting == 1)
            assert keys(outbox) == []
            second.close()
            await clock.advance(LOOK_S)
            await until(lambda: keys(outbox) == [b"b"] and not state.seated(2))
    assert waiting(state) == {"spool.db": 1}


async def test_where_our_own_is_full_nothing_is_lost_and_it_is_tried_again(state: State) -> None:
    class Full(MemoryProducer):
        full = True

        async def send(self, records: Sequence[Record], releases: str | None = None) -> None:
            if self.full:
                raise SpoolFull("full")
            await super().send(records, releases)

    await left_by(state, 2, "a")
    outbox, clock = Full(), ManualClock()
    with gateways(state, 1):
        async with taking_over(state, outbox, clock):
            await until(lambda: clock.waiting == 1)
            assert waiting(state) == {"spool-2.db": 1}
            outbox.full = False
            await clock.advance(LOOK_S)
            await until(lambda: keys(outbox) == [b"a"])


async def test_what_is_no_spool_is_told_and_holds_up_no_other(state: State) -> None:
    await left_by(state, 2)
    await left_by(state, 3, "c")
    state.spool(2).write_bytes(b"garbage" * 1_000)
    outbox = MemoryProducer()
    with gateways(state, 1):
        assert waiting(state) == {"spool-2.db": -1, "spool-3.db": 1}
        async with taking_over(state, outbox, ManualClock()):
            await until(lambda: keys(outbox) == [b"c"])


async def test_one_that_was_killed_before_its_spool_had_a_table_left_nothing(state: State) -> None:
    await left_by(state, 2)
    state.spool(2).write_bytes(b"")
    assert waiting(state) == {}
    outbox, clock = MemoryProducer(), ManualClock()
    async with taking_over(state, outbox, clock):
        await until(lambda: clock.waiting == 1)
    assert keys(outbox) == []
