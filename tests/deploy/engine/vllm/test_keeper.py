"""One replica as it should be: what it is asked for depends on what it was seen to have."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import aiohttp
import pytest

from deploy.engine.metrics import ROLES
from deploy.engine.refusing import RETRY_S
from deploy.engine.vllm.base_lock import BaseLock
from deploy.engine.vllm.keeper import BARE_S, Keeper, Wanted
from deploy.engine.vllm.replica import Replica
from deploy.rules.assignment import Routing, Shadow
from models.adapters import engine_name
from tests.deploy.engine.replies import Desk, failures
from tests.deploy.engine.vllm.fake_server import BASE, running
from tests.deploy.engine.vllm.speaking import Speaking, record_for
from tests.fakes import ManualClock, until

RECORD = record_for("d" * 64)
NAME = engine_name(RECORD.digest)


@pytest.fixture
async def server() -> AsyncIterator[Speaking]:
    async with running(Speaking(RECORD)) as fake:
        assert isinstance(fake, Speaking)
        yield fake


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def desk() -> Desk:
    return Desk()


@pytest.fixture
async def keeper(server: Speaking, clock: ManualClock, desk: Desk, tmp_path: Path) -> AsyncIterator[Keeper]:
    async with aiohttp.ClientSession() as session:
        lock = BaseLock(tmp_path / "lock")
        keeper = Keeper(Replica(session, server.url, clock), BASE, tmp_path, 3, lock, desk.routing, clock)
        yield keeper
        await keeper.stop()


@pytest.fixture
def neighbour(tmp_path: Path) -> Iterator[BaseLock]:
    """The lock as another gateway has it."""
    lock = BaseLock(tmp_path / "lock")
    yield lock
    lock.close()


@pytest.fixture
def wanted(tmp_path: Path) -> Wanted:
    return Wanted(NAME, tmp_path / RECORD.digest, tmp_path / "zero-1", RECORD)


async def test_nothing_is_asked_of_a_replica_that_was_not_seen_yet_or_is_away(keeper: Keeper, server: Speaking) -> None:
    assert keeper.model(None) is None
    await keeper.look([], ())
    assert keeper.model(None) == BASE
    server.broken = True
    await keeper.look([], ())
    assert keeper.model(None) is None
    assert "is not well" in str(keeper.away)


async def test_a_replica_that_comes_back_is_asked_anew_how_long_its_context_is(
    keeper: Keeper, server: Speaking
) -> None:
    await keeper.look([], ())
    assert keeper.context == 400
    server.broken, server.context = True, 300
    await keeper.look([], ())
    server.broken = False
    await keeper.look([], ())
    assert keeper.context == 300


async def test_beside_an_adapter_that_somebody_else_loaded_the_base_itself_is_not_asked(
    keeper: Keeper, server: Speaking
) -> None:
    server.roots["tt-other"] = "/elsewhere"
    await keeper.look([], ["tt-other"])
    assert keeper.model(None) is None
    await keeper.look([], ())
    await until(lambda: not keeper._busy)
    assert keeper.model(None) is None, "it was not seen yet that no other is there"
    await keeper.look([], ())
    assert keeper.model(None) == BASE


async def test_an_adapter_is_asked_for_only_once_it_was_proved(
    keeper: Keeper, server: Speaking, wanted: Wanted
) -> None:
    await keeper.look([wanted], ())
    assert keeper.model(NAME) is None
    await until(lambda: keeper.model(NAME) == NAME)
    assert keeper.model(None) == wanted.zero_name
    server.restart()
    await keeper.look([], ())
    assert (keeper.model(NAME), keeper.model(None)) == (None, BASE)


async def test_what_was_refused_is_tried_again_later(
    keeper: Keeper, server: Speaking, wanted: Wanted, clock: ManualClock
) -> None:
    server.wrong = {NAME}
    await keeper.look([wanted], ())
    await until(lambda: NAME in keeper.refused and NAME not in server.roots)
    server.wrong = set()
    await keeper.look([wanted], ())
    assert keeper.model(NAME) is None
    clock.set_forward(RETRY_S)
    await until(lambda: keeper._changing is None or keeper._changing.done())
    await keeper.look([wanted], ())
    await until(lambda: keeper.model(NAME) == NAME)
    assert NAME not in keeper.refused


async def test_what_is_refused_is_counted_each_time_for_what_it_is_wanted_for_then(
    keeper: Keeper, server: Speaking, wanted: Wanted, clock: ManualClock, desk: Desk
) -> None:
    """One that is refused unseen and then under rollout is counted for both: only then users miss it."""
    server.wrong = {NAME}
    digest, before = RECORD.digest, {role: failures(role) for role in ROLES}
    for desk.now in (Routing(shadow=Shadow("s", digest, 1, 1, 2, "5a" * 32)), Routing(incumbent=digest)):
        for _ in range(2):
            await keeper.look([wanted], ())
            await until(lambda: NAME in keeper.refused and keeper.refused[NAME].at_s == clock.monotonic_s())
            await until(lambda: not keeper._busy)
            clock.set_forward(RETRY_S)
    assert {role: failures(role) - before[role] for role in ROLES} == {
        "incumbent": 2, "candidate": 0, "shadow": 2, "by_name": 0,
    }  # fmt: skip


async def test_a_first_adapter_waits_until_no_reply_is_by_the_base_itself(
    keeper: Keeper, server: Speaking, wanted: Wanted
) -> None:
    await keeper.look([], ())
    with keeper.asking(BASE):
        await keeper.look([wanted], ())
        await until(lambda: keeper.model(None) == wanted.zero_name)
        with keeper.asking(wanted.zero_name):
            assert keeper._changing is not None
            assert not keeper._changing.done()
            assert NAME not in server.roots
    await until(lambda: keeper.model(NAME) == NAME)


async def test_where_adapters_were_before_the_base_itself_is_not_asked_beside_what_stands_in_for_it(
    keeper: Keeper, server: Speaking, wanted: Wanted
) -> None:
    server.roots["tt-other"] = "/elsewhere"
    await keeper.look([], ())
    await until(lambda: not keeper._busy)
    await keeper.look([], ())
    assert keeper.model(None) == BASE
    with keeper.asking(BASE):
        await keeper.look([wanted], ())
        await until(lambda: keeper.model(None) is None)
        assert not any(path == "/v1/completions" for path, _ in server.asked)
        assert wanted.zero_name not in server.roots
    await until(lambda: keeper.model(NAME) == NAME)
    assert keeper.model(None) == wanted.zero_name


async def test_what_stands_in_for_the_base_is_asked_for_wherever_it_is_found_but_not_from_another_folder(
    keeper: Keeper, server: Speaking, wanted: Wanted
) -> None:
    server.roots[wanted.zero_name] = "/elsewhere/zero-1"
    await keeper.look([], ())
    assert keeper.model(None) == BASE
    server.roots[wanted.zero_name] = str(wanted.zero)
    await keeper.look([], ())
    assert keeper.model(None) == wanted.zero_name


async def test_a_first_adapter_waits_for_the_neighbours_who_ask_for_the_base_itself(
    keeper: Keeper, server: Speaking, wanted: Wanted, clock: ManualClock, neighbour: BaseLock
) -> None:
    assert neighbour.share()
    await keeper.look([], ())
    assert keeper.model(None) == BASE
    await keeper.look([wanted], ())
    await until(lambda: clock.waiting > 0 and keeper.model(None) == wanted.zero_name)
    await clock.advance(1.0)
    assert NAME not in server.roots
    neighbour.release()
    await clock.advance(1.0)
    await until(lambda: keeper.model(NAME) == NAME)
    assert neighbour.take(), "whoever comes now finds it listed"


async def test_a_neighbour_whose_reply_never_ends_is_not_waited_for_for_ever(
    keeper: Keeper, server: Speaking, wanted: Wanted, clock: ManualClock, neighbour: BaseLock
) -> None:
    assert neighbour.share()
    await keeper.look([wanted], ())
    await until(lambda: clock.waiting > 0 and keeper.model(None) == wanted.zero_name)
    clock.set_forward(BARE_S)
    await clock.advance(1.0)
    await until(lambda: keeper.model(NAME) == NAME)
    assert neighbour.held == "shared"


async def test_while_a_neighbour_loads_a_first_adapter_the_base_itself_is_not_asked(
    keeper: Keeper, server: Speaking, neighbour: BaseLock
) -> None:
    assert neighbour.take()
    await keeper.look([], ())
    assert keeper.model(None) is None
    neighbour.release()
    await keeper.look([], ())
    assert keeper.model(None) == BASE
    assert not neighbour.take()


async def test_what_a_neighbour_has_loaded_since_the_replica_was_asked_is_seen_before_its_base_is(
    keeper: Keeper, server: Speaking, wanted: Wanted, neighbour: BaseLock
) -> None:
    """It loads between the list and the lock."""
    share = keeper._lock.share

    def late() -> bool:
        server.roots |= {NAME: str(wanted.path), wanted.zero_name: str(wanted.zero)}
        return share()

    keeper._lock.share = late  # type: ignore[method-assign]
    await keeper.look([], [NAME])
    assert keeper.model(None) == wanted.zero_name
    assert neighbour.take(), "it has no need of it any more"


async def test_what_stands_in_for_the_base_comes_back_when_somebody_unloads_it(
    keeper: Keeper, server: Speaking, wanted: Wanted
) -> None:
    await keeper.look([wanted], ())
    await until(lambda: keeper.model(NAME) == NAME)
    del server.roots[wanted.zero_name]
    await until(lambda: not keeper._busy)
    await keeper.look([wanted], ())
    assert (keeper.model(NAME), keeper.model(None)) == (NAME, None)
    await until(lambda: keeper.model(None) == wanted.zero_name)


async def test_a_server_that_forgets_while_an_adapter_is_proved_is_not_held_against_the_adapter(
    keeper: Keeper, server: Speaking, wanted: Wanted
) -> None:
    server.forgets_at = 5
    await keeper.look([wanted], ())
    await until(lambda: not keeper._busy)
    assert (keeper.refused, keeper.model(NAME)) == ({}, None)
    await keeper.look([wanted], ())
    await until(lambda: keeper.model(NAME) == NAME)


async def test_what_lies_elsewhere_under_our_name_gives_way(keeper: Keeper, server: Speaking, wanted: Wanted) -> None:
    server.roots |= {NAME: "/elsewhere", wanted.zero_name: "/elsewhere"}
    await keeper.look([wanted], ())
    await until(lambda: keeper.model(NAME) == NAME)
    assert (server.roots[NAME], server.roots[wanted.zero_name]) == (str(wanted.path), str(wanted.zero))


async def test_the_base_by_another_name_is_asked_for_as_the_base(
    keeper: Keeper, server: Speaking, wanted: Wanted
) -> None:
    server.roots |= {"second": server.roots[BASE], "theirs": "/their/adapter"}
    assert (keeper.other("second"), keeper.other("theirs")) == (None, None)
    await keeper.look([], ())
    assert (keeper.other("second"), keeper.other("theirs"), keeper.other("none")) == (BASE, "theirs", "none")
    await keeper.look([wanted], ())
    await until(lambda: keeper.model(NAME) == NAME)
    assert (keeper.other("second"), keeper.other("theirs")) == (wanted.zero_name, "theirs")
    server.broken = True
    await keeper.look([], ())
    assert (keeper.other("second"), keeper.other("theirs")) == (None, None)


async def test_adapters_of_others_that_might_answer_for_the_base_are_warned_of_once(
    keeper: Keeper, server: Speaking, capsys: pytest.CaptureFixture[str]
) -> None:
    server.roots |= {"second": server.roots[BASE], "theirs": "/their/adapter"}
    await keeper.look([], ())
    await keeper.look([], ())
    said = capsys.readouterr().out
    assert said.count("adapters_of_others") == 1
    assert "['theirs']" in said


async def test_files_have_to_stay_where_a_replica_lists_them_changes_or_can_not_be_asked(
    keeper: Keeper, server: Speaking, wanted: Wanted
) -> None:
    assert keeper.may_have(NAME)
    await keeper.look([], ())
    assert not keeper.may_have(NAME)
    await keeper.look([wanted], ())
    assert keeper.may_have("tt-other")
    await until(lambda: keeper.model(NAME) == NAME)
    await until(lambda: not keeper._busy)
    assert (keeper.may_have(NAME), keeper.may_have("tt-other")) == (True, False)
    server.broken = True
    await keeper.look([], ())
    assert keeper.may_have("tt-other")
