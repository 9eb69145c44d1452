"""The shadow stage at the gateway: pairs come of what was served, and nobody who chats notices, whatever becomes of the copies."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import REGISTRY
from sqlalchemy import select

from deploy.control import schema
from deploy.control.shadows import Shadows, read_shadow, tally_shadow
from deploy.control.store import Control
from deploy.decisions.operations import Operations
from deploy.gateway import metrics
from deploy.rules.assignment import place
from deploy.serving_settings import ShadowSettings
from tests.deploy.candidates import make_candidate
from tests.deploy.gateways import Gateway, full, running
from tests.deploy.pairs import stored
from tests.fakes import PACE_S, FakeEngine, FakeGeneration, until

EVERYBODY = ShadowSettings(share=1.0)
HELLO = [{"role": "user", "content": "Hello, I am ann@example.com"}]


class ShadowedEngine(FakeEngine):
    """What is to happen to replies by one adapter happens to these alone."""

    def __init__(self) -> None:
        super().__init__()
        self.shadowed = ""
        self.rambles = self.fails = False
        self.held = False
        """Replies by others go on until this ends."""

    def generate(self, messages: Sequence[Any], adapter: str | None = None, **options: Any) -> FakeGeneration:
        whole, ours = super().generate(messages, adapter, **options), adapter == self.shadowed
        if not (self.rambles or self.fails if ours else self.held):
            return whole
        whole.close()
        if ours and self.fails:
            raise RuntimeError("out of memory")
        return Endless(self, [])

    def asked_for(self, adapter: str | None) -> int:
        return sum(asked["adapter"] == adapter for asked in self.asked)


class Endless(FakeGeneration):
    """Says a word at a time until nobody wants more, or its kind is to end."""

    def __init__(self, engine: ShadowedEngine, words: Sequence[str]) -> None:
        super().__init__(engine, words, 1)
        self._of = engine

    def __next__(self) -> str:
        if not (self._of.rambles or self._of.held):
            self.finish_reason = "stop"
            self.close()
            raise StopIteration
        time.sleep(PACE_S)
        self.completion_tokens += 1
        return " on"


@pytest.fixture
def engine() -> ShadowedEngine:
    return ShadowedEngine()


def shadowed(rules: Operations, folder: Path, engine: ShadowedEngine, seed: int = 0, **report: Any) -> str:
    """A candidate in the shadow."""
    digest = make_candidate(folder, seed, **report)
    rules.register(digest)
    assert rules.attend_shadow() is not None
    engine.shadowed = digest
    return digest


@asynccontextmanager
async def gateway(
    control: Control, folder: Path, engine: ShadowedEngine, shadow: ShadowSettings = EVERYBODY, **options: Any
) -> AsyncIterator[Gateway]:
    async with running(control, folder, shadow=shadow, engine=engine, **options) as running_gateway:
        await running_gateway.caught_up()
        yield running_gateway


def skipped(reason: str) -> float:
    return REGISTRY.get_sample_value("trimtab_shadow_skipped_total", {"reason": reason}) or 0.0


def failed(reason: str) -> float:
    return REGISTRY.get_sample_value("trimtab_shadow_failed_total", {"reason": reason}) or 0.0


async def chat(gateway: Gateway, user: str = "ann", **options: Any) -> str:
    fields = {"model": "trimtab", "messages": HELLO, "user": user} | options
    done = await gateway.openai().chat.completions.create(**fields)
    return str(done.choices[0].message.content)


def asks(control: Control) -> list[tuple[str, str | None]]:
    """Units and failures."""
    table = schema.shadow_asks
    with control.read() as tx:
        return [(row.unit, row.failure) for row in tx.connection.execute(select(table).order_by(table.c.unit))]


@pytest.mark.parametrize("stream", [False, True])
async def test_a_served_turn_becomes_a_pair_as_the_log_has_it_and_nobody_sees_the_candidates_reply(
    control: Control, rules: Operations, folder: Path, engine: ShadowedEngine, stream: bool
) -> None:
    digest = shadowed(rules, folder, engine)
    async with gateway(control, folder, engine) as running_gateway:
        if stream:
            chunks = await running_gateway.openai().chat.completions.create(
                model="trimtab", messages=HELLO, user="ann", stream=True  # type: ignore[arg-type]
            )  # fmt: skip
            told = "".join([chunk.choices[0].delta.content or "" async for chunk in chunks])
        else:
            told = await chat(running_gateway)
        await until(lambda: len(stored(control, digest)) == 1, "a pair")
        (logged,) = running_gateway.events()
    (pair,) = stored(control, digest)
    assert told == pair.incumbent_reply == "base says hello."
    assert pair.candidate_reply == f"{digest[:4]} says hello."
    assert (pair.prompt, pair.unit) == (logged["messages"], logged["user_id"])
    assert "ann" not in str(pair)
    assert (pair.turn_id, pair.conversation_id, pair.tenant) == tuple(
        logged[name] for name in ("turn_id", "conversation_id", "tenant")
    )
    assert (pair.origin, pair.incumbent, pair.people, pair.probability) == ("shadow", None, pair.people, 1.0)
    assert pair.people in (1, 2)
    ours = engine.asked[1]
    assert {name: ours[name] for name in ("messages", "max_tokens")} == {
        name: engine.asked[0][name] for name in ("messages", "max_tokens")
    }


async def test_the_candidate_is_asked_after_the_turn_was_logged_and_told(
    control: Control, rules: Operations, folder: Path, engine: ShadowedEngine
) -> None:
    digest = shadowed(rules, folder, engine)
    async with gateway(control, folder, engine) as running_gateway:
        running_gateway.producer.go.clear()
        chatting = asyncio.create_task(chat(running_gateway))
        await until(lambda: engine.asked_for(None) == 1 and not engine.under_way, "a reply that is not logged yet")
        assert engine.asked_for(digest) == 0
        running_gateway.producer.go.set()
        await chatting
        await until(lambda: engine.asked_for(digest) == 1, "the copy")


async def test_a_user_is_compared_once_whatever_they_ask(
    control: Control, rules: Operations, folder: Path, engine: ShadowedEngine
) -> None:
    digest = shadowed(rules, folder, engine)
    before = skipped("asked_before")
    async with gateway(control, folder, engine) as running_gateway:
        for n in range(3):
            await chat(running_gateway, messages=[{"role": "user", "content": f"question {n}"}])
            await until(lambda: len(stored(control, digest)) == 1, "the one pair")
        await until(lambda: skipped("asked_before") == before + 2, "two that were not copied")
    assert engine.asked_for(digest) == 1


async def test_of_two_gateways_one_asks_and_each_draws_the_same_users(
    control: Control, rules: Operations, folder: Path, engine: ShadowedEngine
) -> None:
    digest, other = shadowed(rules, folder, engine), ShadowedEngine()
    with control.read() as tx:
        shadow = read_shadow(tx.connection)
    assert shadow is not None
    half = ShadowSettings(share=0.5)
    async with gateway(control, folder, engine, half) as one, gateway(control, folder, other, half) as two:
        users = [f"u-{n}" for n in range(12)]
        units = {user: one.edge.user(user) for user in users}
        drawn = {u for u in users if place(shadow.id, shadow.salt, f"default/{units[u]}") < 0.5}
        for user in users:
            await asyncio.gather(chat(one, user), chat(two, user))
        await until(lambda: len(stored(control, digest)) == len(drawn), "a pair of each")
    assert {pair.unit for pair in stored(control, digest)} == {units[user] for user in drawn}
    assert engine.asked_for(digest) + other.asked_for(digest) == len(drawn)


@pytest.mark.parametrize(
    "unfit",
    [
        {"tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}]},
        {"max_tokens": 1},
        {"messages": [{"role": "user", "content": " "}]},
        {"messages": [*HELLO, {"role": "assistant", "content": "", "refusal": "no"}, *HELLO]},
    ],
)
async def test_what_is_not_plain_text_or_was_cut_is_not_copied(
    control: Control, rules: Operations, folder: Path, engine: ShadowedEngine, unfit: dict[str, Any]
) -> None:
    digest, before = shadowed(rules, folder, engine), skipped("unfit")
    async with gateway(control, folder, engine) as running_gateway:
        response = await post(running_gateway, **unfit)
        if response == 200:
            await until(lambda: skipped("unfit") == before + 1, "a reason")
    assert engine.asked_for(digest) == 0


async def post(gateway: Gateway, **options: Any) -> int:
    fields = {"model": "trimtab", "messages": HELLO, "user": "ann"} | options
    async with gateway.http() as client:
        return (await client.post("/v1/chat/completions", json=fields)).status_code


async def test_nothing_is_copied_beside_a_rollout_or_while_everything_is_halted(
    control: Control, rules: Operations, folder: Path, engine: ShadowedEngine
) -> None:
    digest = shadowed(rules, folder, engine)
    other = make_candidate(folder, 7)
    rules.register(other)
    async with gateway(control, folder, engine) as running_gateway:
        rules.halt(actor="ada")
        await running_gateway.caught_up()
        await chat(running_gateway, "u-1")
        rules.resume(actor="ada")
        evidence = rules.show(other)["evidence"]
        rules.approve(other, evidence=evidence, reason="r", actor="ada", override_hold=True)
        await running_gateway.caught_up()
        await chat(running_gateway, "u-2")
        rules.rollback(actor="ada")
        await running_gateway.caught_up()
        await chat(running_gateway, "u-3")
        await until(lambda: len(stored(control, digest)) == 1, "the one pair")
    assert [unit for unit, _ in asks(control)] == [running_gateway.edge.user("u-3")]


async def test_it_is_compared_with_the_adapter_that_served(
    control: Control, rules: Operations, folder: Path, engine: ShadowedEngine
) -> None:
    serving = full(rules, make_candidate(folder, 1))
    digest = shadowed(rules, folder, engine, 2, incumbent=serving)
    async with gateway(control, folder, engine) as running_gateway:
        await chat(running_gateway)
        await until(lambda: len(stored(control, digest, serving)) == 1, "a pair")
    assert stored(control, digest, serving)[0].incumbent_reply == f"{serving[:4]} says hello."


async def test_a_candidate_that_rambles_holds_up_nobody_and_fails_at_its_limit(
    control: Control, rules: Operations, folder: Path, engine: ShadowedEngine
) -> None:
    digest, before, busy = shadowed(rules, folder, engine), failed("too_slow"), skipped("busy")
    engine.rambles = True
    slow = ShadowSettings(share=1.0, timeout_s=0.5)
    async with gateway(control, folder, engine, slow) as running_gateway:
        await chat(running_gateway, "u-0")
        await until(lambda: engine.asked_for(digest) == 1, "the copy")
        told = [await chat(running_gateway, f"u-{n}") for n in range(1, 4)]
        assert told == ["base says hello."] * 3
        await until(lambda: failed("too_slow") == before + 1, "its limit")
        await until(lambda: not engine.under_way, "its end in the engine")
    assert skipped("busy") - busy >= 1
    assert (running_gateway.edge.user("u-0"), "too_slow") in asks(control)


async def test_a_copy_gives_way_to_those_who_chat_and_its_user_may_be_asked_for_another_time(
    control: Control, rules: Operations, folder: Path, engine: ShadowedEngine
) -> None:
    digest, before = shadowed(rules, folder, engine), skipped("made_way")
    engine.rambles = True
    async with gateway(control, folder, engine) as running_gateway:
        await chat(running_gateway, "u-0")
        await until(lambda: engine.asked_for(digest) == 1, "the copy")
        engine.held = True
        chatting = []
        for n in range(1, 5):  # the last finds half of the engine taken
            chatting.append(asyncio.create_task(chat(running_gateway, f"u-{n}")))
            await until(lambda: engine.asked_for(None) == n + 1, "one more under way")  # noqa: B023
        await until(lambda: skipped("made_way") == before + 1, "the copy's end")
        assert stored(control, digest) == []
        engine.held = engine.rambles = False
        await asyncio.gather(*chatting)
        user = running_gateway.edge.user("u-0")

        async def compared() -> bool:
            await chat(running_gateway, "u-0")
            return user in {pair.unit for pair in stored(control, digest)}

        await until(compared, "a pair after all")


async def test_the_days_limit_holds_and_is_told(
    control: Control, rules: Operations, folder: Path, engine: ShadowedEngine
) -> None:
    digest, before = shadowed(rules, folder, engine), skipped("daily_cap")
    two = ShadowSettings(share=1.0, max_per_day=2)
    async with gateway(control, folder, engine, two) as running_gateway:
        for n in range(4):
            await chat(running_gateway, f"u-{n}")
            await until(lambda: len(stored(control, digest)) + skipped("daily_cap") - before == n + 1, "one more")  # noqa: B023
    assert (len(stored(control, digest)), engine.asked_for(digest)) == (2, 2)


async def test_an_adapter_that_can_not_be_loaded_leaves_the_incumbent_serving(
    control: Control, rules: Operations, folder: Path, engine: ShadowedEngine
) -> None:
    serving = full(rules, make_candidate(folder, 1))
    digest, before = shadowed(rules, folder, engine, 2, incumbent=serving), failed("not_loaded")
    engine.broken = {digest}
    async with gateway(control, folder, engine) as running_gateway:
        for n in range(3):
            assert await chat(running_gateway, f"u-{n}") == f"{serving[:4]} says hello."
            await until(lambda: failed("not_loaded") == before + n + 1, "a reason")  # noqa: B023
    assert asks(control) == []  # nobody was asked for: they may be yet


async def test_a_candidate_that_breaks_is_counted_by_its_reason_and_users_are_answered(
    control: Control, rules: Operations, folder: Path, engine: ShadowedEngine
) -> None:
    digest, before = shadowed(rules, folder, engine), failed("broke")
    engine.fails = True
    async with gateway(control, folder, engine) as running_gateway:
        for n in range(3):
            assert await chat(running_gateway, f"u-{n}") == "base says hello."
            await until(lambda: failed("broke") == before + n + 1, "a reason")  # noqa: B023
    with control.read() as tx:
        tally = tally_shadow(tx.connection, digest)
    assert (tally.pairs, tally.failures) == (0, {"broke": 3})


async def test_a_control_database_that_takes_no_pair_is_counted_and_chats_go_on_as_evidence(
    control: Control, rules: Operations, folder: Path, engine: ShadowedEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> Any:
        raise OSError("no space left on device")

    shadowed(rules, folder, engine)
    before = failed("not_kept")
    monkeypatch.setattr(Shadows, "ask", broken)
    async with gateway(control, folder, engine) as running_gateway:
        for n in range(2):
            assert await chat(running_gateway, f"u-{n}") == "base says hello."
            await until(lambda: failed("not_kept") == before + n + 1, "a reason")  # noqa: B023
        assert running_gateway.link is not None
        assert running_gateway.link.missing() is None


async def test_a_gateway_that_ends_ends_its_copy_and_the_next_one_goes_on_with_others(
    control: Control, rules: Operations, folder: Path, engine: ShadowedEngine
) -> None:
    digest = shadowed(rules, folder, engine)
    engine.rambles = True
    async with gateway(control, folder, engine) as first:
        await chat(first, "u-0")
        await until(lambda: engine.asked_for(digest) == 1, "the copy")
    assert stored(control, digest) == []
    again, before = ShadowedEngine(), skipped("asked_before")
    async with gateway(control, folder, again) as second:
        await chat(second, "u-0")
        await until(lambda: skipped("asked_before") == before + 1, "one who was asked for")
        await chat(second, "u-1")
        await until(lambda: len(stored(control, digest)) == 1, "a pair of another")
    assert Counter(again.asked_for(who) for who in (None, digest)) == Counter([2, 1])


async def test_once_the_shadow_is_over_its_adapter_goes_and_nobody_is_copied(
    control: Control, rules: Operations, folder: Path, engine: ShadowedEngine
) -> None:
    digest = shadowed(rules, folder, engine)
    async with gateway(control, folder, engine) as running_gateway:
        await until(lambda: digest in engine.adapters, "it was loaded")
        rules.object(digest, reason="flatters", actor="bob")
        await running_gateway.caught_up()
        await chat(running_gateway)
        await until(lambda: digest not in engine.adapters, "it was let go of")
    assert engine.asked_for(digest) == 0


def test_every_reason_is_there_from_the_beginning_for_alerts_to_count_on() -> None:
    for reason in metrics.SHADOW_SKIPS:
        assert REGISTRY.get_sample_value("trimtab_shadow_skipped_total", {"reason": reason}) is not None
    for reason in metrics.SHADOW_FAILURES:
        assert REGISTRY.get_sample_value("trimtab_shadow_failed_total", {"reason": reason}) is not None
        assert len(reason) <= 16
