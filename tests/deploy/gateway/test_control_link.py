"""The control database away: chats go on, nothing counts as evidence, and what is missing is said."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import httpx
import pytest

from deploy.control.database import Database, open_database
from deploy.control.keys import Key
from deploy.control.records import UnknownCandidate
from deploy.control.store import Control
from deploy.decisions.operations import Operations
from deploy.gateway.breaker import Away
from deploy.gateway.control_link import DEADLINE_S, KEY_S, KNOWN_S, LEASE_S, LOOK_S, STATEMENT_S, ControlLink
from deploy.rules.assignment import Conversation, Exposure, Routing
from deploy.settings import Settings
from tests.deploy.gateways import NOW_US, Gateway, canary, incumbent, running
from tests.deploy.postgres import fresh, stopped
from tests.fakes import CLOCK, ManualClock, until

HELLO: Any = [{"role": "user", "content": "Hello"}]


class HangingControl(Control):
    """Says nothing while `go` is cleared."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self.go = threading.Event()
        self.go.set()
        self.looks = self.key_looks = self.expose_calls = 0
        self.exposed = list[str]()

    def routing(self) -> Routing:
        self.looks += 1
        self.go.wait()
        return super().routing()

    def expose_all(self, conversations: Sequence[Conversation]) -> list[Exposure]:
        self.expose_calls += 1
        self.exposed += [one.conversation_id for one in conversations]
        self.go.wait()
        return super().expose_all(conversations)

    def key(self, token: str, now_us: int) -> Key | None:
        self.key_looks += 1
        self.go.wait()
        return super().key(token, now_us)


@pytest.fixture
def hanging(control: Control) -> HangingControl:
    return HangingControl(control.database)


@pytest.fixture
async def link(hanging: HangingControl, clock: ManualClock) -> AsyncIterator[ControlLink]:
    """It has read who serves."""
    link = ControlLink(hanging, clock)
    await link.start()
    await until(lambda: link.missing() is None)
    yield link
    hanging.go.set()
    await link.stop()


async def hang(link: ControlLink, hanging: HangingControl, clock: ManualClock) -> None:
    """The database hangs, and the link has noticed."""
    hanging.go.clear()
    await until(lambda: clock.waiting == 1)
    await clock.advance(LOOK_S)
    await clock.advance(DEADLINE_S)
    await until(lambda: link.missing() is not None)


async def back(link: ControlLink, hanging: HangingControl, clock: ManualClock) -> None:
    hanging.go.set()
    await until(lambda: clock.waiting == 1)
    await clock.advance(LOOK_S)
    await until(lambda: link.missing() is None)


async def reads(link: ControlLink, hanging: HangingControl, clock: ManualClock) -> None:
    """The link has read what was decided."""
    await until(lambda: clock.waiting == 1)
    await clock.advance(LOOK_S)
    await until(lambda: link.routing() == hanging.routing())


async def test_what_is_asked_aside_and_hangs_or_fails_keeps_nobody_from_the_database(
    link: ControlLink, hanging: HangingControl, clock: ManualClock
) -> None:
    hangs, begun = threading.Event(), threading.Event()

    def hang_aside(_: Control) -> None:
        begun.set()
        hangs.wait()

    waiting = asyncio.create_task(link.aside(hang_aside))
    await until(begun.is_set, "it hangs")
    assert await link.keyed() is False
    assert (await link.expose("t", "c", "u", NOW_US)).policy is None
    await clock.advance(DEADLINE_S)
    with pytest.raises(Away):
        await waiting
    assert link.missing() is None
    hangs.set()
    with pytest.raises(AttributeError):
        await link.aside(lambda control: control.no_such_thing)  # type: ignore[attr-defined]
    assert await link.aside(lambda control: control is hanging)
    assert link.missing() is None


async def test_a_conversation_keeps_its_arm_for_the_lease_and_others_get_the_incumbent_none_of_it_as_evidence(
    link: ControlLink, hanging: HangingControl, clock: ManualClock, judged_rules: Operations, folder: Path
) -> None:
    old = incumbent(judged_rules, folder, 1)
    new = canary(judged_rules, folder, 2)
    await reads(link, hanging, clock)
    before = {n: await link.expose("t", f"c-{n}", f"u-{n}", NOW_US) for n in range(20)}
    assert {exposure.policy for exposure in before.values()} == {old, new}
    await hang(link, hanging, clock)
    for n, exposure in before.items():
        assert await link.expose("t", f"c-{n}", f"u-{n}", NOW_US) == Exposure(exposure.policy, exposure.arm)
    for n in range(20, 40):
        assert await link.expose("t", f"c-{n}", f"u-{n}", NOW_US) == Exposure(old)
    assert (
        link.missing() == "the control database does not answer since 0 s: chats are served by the last known routing"
    )
    clock.set_forward(LEASE_S)
    for n in before:
        assert await link.expose("t", f"c-{n}", f"u-{n}", NOW_US) == Exposure(old)
    assert (
        link.missing()
        == "the control database does not answer since 60 s: chats are served by the last known incumbent"
    )
    await back(link, hanging, clock)
    assert {n: await link.expose("t", f"c-{n}", f"u-{n}", NOW_US) for n in before} == before
    assert hanging.assignment(before[0].rollout_id or "", "t", "c-30") is None


async def test_what_was_halted_stays_halted(
    link: ControlLink, hanging: HangingControl, clock: ManualClock, judged_rules: Operations, folder: Path
) -> None:
    canary(judged_rules, folder)
    judged_rules.halt(actor="ada", reason="it swears")
    await reads(link, hanging, clock)
    await hang(link, hanging, clock)
    assert await link.expose("t", "c", "u", NOW_US) == Exposure(None)


async def test_before_anything_was_read_nobody_can_be_served(hanging: HangingControl, clock: ManualClock) -> None:
    link = ControlLink(hanging, clock)
    assert (link.routing(), link.missing()) == (None, "the control database is being read")
    hanging.go.clear()
    await link.start()
    await until(lambda: hanging.looks == 1)
    await clock.advance(DEADLINE_S)
    await until(lambda: "chats are refused until" in (link.missing() or ""))
    with pytest.raises(Away):
        await link.expose("t", "c", "u", NOW_US)
    hanging.go.set()
    await link.stop()


async def test_without_a_rollout_and_while_all_is_halted_a_chat_asks_nobody(
    link: ControlLink, hanging: HangingControl, clock: ManualClock, judged_rules: Operations, folder: Path
) -> None:
    assert [await link.expose("t", f"c-{n}", "u", NOW_US) for n in range(20)] == [Exposure(None)] * 20
    old = incumbent(judged_rules, folder, 1)
    await reads(link, hanging, clock)
    assert await link.expose("t", "c-0", "u", NOW_US) == Exposure(old)
    canary(judged_rules, folder, 2)
    judged_rules.halt(actor="ada", reason="it swears")
    await reads(link, hanging, clock)
    assert await link.expose("t", "c-0", "u", NOW_US) == Exposure(None)
    assert hanging.exposed == []


async def test_a_conversation_asks_once_in_a_rollout_and_then_keeps_what_is_stored(
    link: ControlLink, hanging: HangingControl, clock: ManualClock, judged_rules: Operations, folder: Path
) -> None:
    for number in (1, 2):
        canary(judged_rules, folder, number)
        await reads(link, hanging, clock)
        hanging.exposed.clear()
        first = [await link.expose("t", f"c-{n}", f"u-{n}", NOW_US) for n in range(30)]
        for _ in range(3):
            assert [await link.expose("t", f"c-{n}", f"u-{n}", NOW_US) for n in range(30)] == first
        assert hanging.exposed == [f"c-{n}" for n in range(30)]
        assert {exposure.arm for exposure in first} == {"candidate", "incumbent"}
        stored = [hanging.assignment(first[0].rollout_id or "", "t", f"c-{n}") for n in range(30)]
        assert [one and one.arm for one in stored] == [exposure.arm for exposure in first]
        judged_rules.rollback(actor="ada")
        await reads(link, hanging, clock)
        assert await link.expose("t", "c-0", "u-0", NOW_US) == Exposure(None)


async def test_conversations_that_are_new_at_once_are_stored_together(
    link: ControlLink, hanging: HangingControl, clock: ManualClock, judged_rules: Operations, folder: Path
) -> None:
    canary(judged_rules, folder)
    await reads(link, hanging, clock)
    exposures = await asyncio.gather(*[link.expose("t", f"c-{n}", f"u-{n}", NOW_US) for n in range(600)])
    assert (len(hanging.exposed), hanging.expose_calls) == (600, 3)
    assert all(exposure.rollout_id is not None for exposure in exposures)
    assert exposures == [hanging.expose("t", f"c-{n}", f"u-{n}", NOW_US) for n in range(600)]
    assert link.missing() is None


async def test_a_gateway_that_was_started_anew_looks_up_what_another_stored(
    link: ControlLink, hanging: HangingControl, clock: ManualClock, judged_rules: Operations, folder: Path
) -> None:
    canary(judged_rules, folder)
    stored = [hanging.expose("t", f"c-{n}", f"u-{n}", NOW_US) for n in range(20)]
    await reads(link, hanging, clock)
    assert [await link.expose("t", f"c-{n}", f"u-{n}", NOW_US) for n in range(20)] == stored


async def test_what_was_read_a_second_ago_is_read_again(
    link: ControlLink, hanging: HangingControl, clock: ManualClock, judged_rules: Operations, folder: Path
) -> None:
    await until(lambda: clock.waiting == 1)
    canary(judged_rules, folder)
    clock.set_forward(KNOWN_S - 0.001)
    assert (await link.expose("t", "c-1", "u", NOW_US)).rollout_id is None
    clock.set_forward(0.001)
    assert (await link.expose("t", "c-2", "u", NOW_US)).rollout_id is not None


async def test_a_key_is_looked_up_once_a_second_and_one_that_was_revoked_works_no_longer_than_that(
    link: ControlLink, hanging: HangingControl, clock: ManualClock
) -> None:
    token, key = hanging.keys.create("app", "t", ["chat"], "ada", NOW_US)
    assert [await link.key(token, NOW_US) for _ in range(50)] == [key] * 50
    assert hanging.key_looks == 1
    hanging.keys.revoke(key.id, "ada", NOW_US)
    clock.set_forward(KNOWN_S - 0.001)
    assert await link.key(token, NOW_US) == key
    clock.set_forward(0.001)
    assert [await link.key(token, NOW_US) for _ in range(2)] == [None, None]


async def test_a_key_works_as_soon_as_it_is_made_and_not_a_moment_longer_than_it_is_good_for(
    link: ControlLink, hanging: HangingControl
) -> None:
    assert await link.key("tt_unknown", NOW_US) is None
    token, key = hanging.keys.create("app", "t", ["chat"], "ada", NOW_US, NOW_US + 10)
    assert [await link.key(token, NOW_US + more) for more in (0, 9, 10)] == [key, key, None]
    assert hanging.key_looks == 2


async def test_whether_there_are_keys_is_known_within_a_second_and_stays_known_while_the_database_is_away(
    link: ControlLink, hanging: HangingControl, clock: ManualClock
) -> None:
    await until(lambda: clock.waiting == 1)
    assert not await link.keyed()
    hanging.keys.create("app", "t", ["chat"], "ada", NOW_US)
    clock.set_forward(KNOWN_S)
    assert await link.keyed()
    await hang(link, hanging, clock)
    assert await link.keyed()


async def test_where_that_was_never_read_it_is_not_guessed(hanging: HangingControl, clock: ManualClock) -> None:
    link = ControlLink(hanging, clock)
    with patch.object(hanging, "keyed", side_effect=OSError), pytest.raises(Away):
        await link.keyed()
    await link.stop()


async def test_a_key_that_was_good_works_for_a_while_and_others_do_not(
    link: ControlLink, hanging: HangingControl, clock: ManualClock
) -> None:
    (good, key), (unseen, _), (revoked, gone) = (
        hanging.keys.create(name, "t", ["chat"], "ada", NOW_US) for name in ("good", "unseen", "revoked")
    )
    assert await link.key(good, NOW_US) == key
    assert await link.key(revoked, NOW_US) == gone
    hanging.keys.revoke(gone.id, "ada", NOW_US)
    clock.set_forward(KNOWN_S)
    assert await link.key(revoked, NOW_US) is None
    await hang(link, hanging, clock)
    assert await link.key(good, NOW_US) == key
    for token in (unseen, revoked):
        with pytest.raises(Away):
            await link.key(token, NOW_US)
    clock.set_forward(KEY_S)
    with pytest.raises(Away):
        await link.key(good, NOW_US)


async def test_a_key_that_expires_meanwhile_is_refused(
    link: ControlLink, hanging: HangingControl, clock: ManualClock
) -> None:
    token, _ = hanging.keys.create("app", "t", ["chat"], "ada", NOW_US, NOW_US + 10)
    assert await link.key(token, NOW_US) is not None
    await hang(link, hanging, clock)
    assert await link.key(token, NOW_US + 10) is None


async def test_an_unknown_name_is_no_reason_to_call_the_database_away(link: ControlLink) -> None:
    with pytest.raises(UnknownCandidate):
        await link.named("tt-" + "0" * 16)
    assert link.missing() is None


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Somebody else writes."""
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        yield


async def chat(gateway: Gateway, conversation: str) -> dict[str, Any]:
    """One chat; returns its event."""
    reply = await gateway.openai().chat.completions.create(
        model="trimtab", messages=HELLO, metadata={"conversation_id": conversation}
    )
    return next(event for event in gateway.events() if event["event_id"] == reply.id)


async def all_goes_on(gateway: Gateway, served: str) -> None:
    """More chats at once than there are threads, and events beside them."""
    assert gateway.link is not None
    chats = await asyncio.gather(*[chat(gateway, f"away-{n}") for n in range(60)])
    assert {event["policy"] for event in chats} == {served}
    assert not any("rollout" in event for event in chats)
    event = {
        "event": "rating",
        "event_id": "r",
        "conversation_id": "c",
        "turn_id": "t",
        "kind": "thumbs",
        "value": True,
    }
    async with gateway.http() as client:
        answer: httpx.Response = await client.post("/v1/events", json=event | {"source": "user", "occurred_at": 1.7e9})
    assert answer.json()["accepted"] == 1
    assert "does not answer since" in (gateway.link.missing() or "")


async def comes_back(gateway: Gateway) -> None:
    assert gateway.link is not None
    link = gateway.link
    await until(lambda: link.missing() is None)
    assert "rollout" in await chat(gateway, "after")


@pytest.mark.slow
async def test_a_locked_sqlite_database_stops_neither_chats_nor_events(
    control: Control, judged_rules: Operations, folder: Path, tmp_path: Path
) -> None:
    old = incumbent(judged_rules, folder, 1)
    canary(judged_rules, folder, 2)
    async with running(Control(control.database.within(STATEMENT_S)), folder) as gateway:
        assert "rollout" in await chat(gateway, "before")
        with locked(tmp_path / "control.db"):
            await all_goes_on(gateway, old)
        await comes_back(gateway)


@pytest.mark.slow
async def test_a_stopped_postgresql_server_stops_neither_chats_nor_events(postgres: str, folder: Path) -> None:
    with fresh(postgres, "stopped") as url:
        control = Control(open_database(url).within(STATEMENT_S))
        rules = Operations(control, Settings, folder, CLOCK)
        old = incumbent(rules, folder, 1)
        canary(rules, folder, 2)
        async with running(control, folder) as gateway:
            assert "rollout" in await chat(gateway, "before")
            with stopped(url):
                await all_goes_on(gateway, old)
            await comes_back(gateway)
        control.close()
