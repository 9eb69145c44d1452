"""Redaction that holds up nobody."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.gateway.redaction import Redaction, fitting, newest, surely_fit, without_texts
from deploy.gateway.redaction_processes import RedactionProcesses, Unredactable
from feedback.content import is_unredactable, untrainable
from feedback.intake.contract import MAX_EVENT_BYTES
from feedback.intake.edge import Edge
from feedback.records import Rating, Turn
from tests.fakes import CLOCK, until
from tests.feedback.privacy.test_redact import CHAIN

EDGE = Edge(b"key")
NOW_US = 1_800_000_000_000_000
IDS = {"tenant": "acme", "event_id": "e", "turn_id": "t", "conversation_id": "c"}
WORST = CHAIN * 1_400
MANY = "order 4812 of 3.5.2026, " * 400 + "call +49 30 901820"
"""Too much for the loop, and quickly done elsewhere."""


def turn(*texts: str, **fields: Any) -> Turn:
    messages = [{"role": "user", "content": text} for text in texts]
    return Turn(**IDS, policy="p", occurred_at_us=NOW_US, messages=messages, reply="", user_id="ann", **fields)


@pytest.fixture
async def processes() -> AsyncIterator[RedactionProcesses]:
    processes = RedactionProcesses(CLOCK, processes=1, limit_s=20)
    yield processes
    await processes.close()


class Refusing(RedactionProcesses):
    """Where nothing can be redacted."""

    def __init__(self) -> None:
        super().__init__(CLOCK)
        self.asked = 0

    async def redacted(self, content: bytes) -> bytes:
        self.asked += 1
        raise Unredactable("it was not redacted within 0 s")


async def test_a_small_text_is_redacted_at_once() -> None:
    refusing = Refusing()
    redaction = Redaction(Edge(b"key"), CLOCK, refusing)
    assert await redaction.reply("call +49 30 901820") == "call [phone]"
    asked = turn("I am ann@example.com", tags={"app": "ann@example.com"})
    assert await redaction.event(asked) == EDGE.redacted(asked)
    assert refusing.asked == 0


@pytest.mark.slow
async def test_a_big_one_is_redacted_elsewhere_and_comes_out_the_same(processes: RedactionProcesses) -> None:
    redaction = Redaction(Edge(b"key"), CLOCK, processes)
    asked = turn(MANY, "é" * 60_000, extra={"a": [1.5, None, {"b": "ann@example.com"}]})
    assert await redaction.event(asked) == EDGE.redacted(asked)
    rating = Rating(**IDS, occurred_at_us=NOW_US, source="user", kind="comment", value=MANY)
    assert await redaction.event(rating) == EDGE.redacted(rating)
    assert await redaction.reply(MANY) == EDGE.reply(MANY)


@pytest.mark.slow
async def test_the_loop_goes_on_while_the_worst_text_is_redacted(processes: RedactionProcesses) -> None:
    steps = 0

    async def step() -> None:
        nonlocal steps
        while True:
            steps += 1
            await asyncio.sleep(0)

    await Redaction(Edge(b"key"), CLOCK, processes).reply(MANY)  # it runs
    stepping = asyncio.create_task(step())
    worst = asyncio.create_task(Redaction(Edge(b"key"), CLOCK, processes).reply(WORST))
    await until(lambda: steps > 2_000)
    assert not worst.done()
    stepping.cancel()
    worst.cancel()
    await asyncio.gather(stepping, worst, return_exceptions=True)


async def test_what_can_not_be_kept_is_unredactable() -> None:
    redaction = Redaction(Edge(b"key"), CLOCK, Refusing())
    with pytest.raises(Unredactable):
        await redaction.event(turn(MANY, extra={"a": 2**70}))
    with pytest.raises(Unredactable, match="bytes"):
        await RedactionProcesses(CLOCK).redacted(b"x" * 3_000_001)


async def test_an_unredactable_turn_is_kept_without_its_texts_and_teaches_nothing() -> None:
    redaction = Redaction(Edge(b"key"), CLOCK, Refusing())
    asked = turn("my secret " + WORST, tags={"app": "secret"}, extra={"a": "secret"}, locale="de")
    kept = await redaction.asked(asked)
    assert "secret" not in repr(kept)
    harmless = EDGE.redacted(turn("Hi"))
    assert (kept.user_id, kept.bucket, kept.locale) == (EDGE.user("ann"), harmless.bucket, "de")
    assert (is_unredactable(kept), untrainable(kept)) == (True, "unredactable")
    assert await redaction.told(kept, "another secret") == kept


async def test_a_turn_whose_reply_is_unredactable_loses_all_of_its_texts() -> None:
    redaction = Redaction(Edge(b"key"), CLOCK, Refusing())
    kept = await redaction.asked(turn("Hi"))
    assert (await redaction.told(kept, "a@example.com")).reply == "[email]"
    told = await redaction.told(kept, WORST)
    assert told == without_texts(kept)
    assert (told.messages, told.reply, told.user_id) == ([], "", kept.user_id)


@pytest.mark.parametrize(("sizes", "kept"), [([10, 10], 2), ([1_900_000, 300_000, 5], 2), ([5, 9_000_000], 0)])
def test_what_could_not_be_kept_is_cut_off_before_anything_is_done_with_it(sizes: list[int], kept: int) -> None:
    asked = turn(*("x" * size for size in sizes))
    fit = fitting(asked)
    assert (len(fit.messages), fit.truncated) == (kept, len(sizes) - kept)
    assert fitting(fit) is fit
    assert fit.messages == newest(asked.messages, 2 * MAX_EVENT_BYTES)


@given(st.lists(st.text(max_size=30), max_size=5), st.integers(0, 2_000))
def test_what_surely_fits_is_kept(texts: list[str], room: int) -> None:
    asked = [{"role": "assistant", "content": text} for text in texts]
    assert not surely_fit(asked, room) or newest(asked, room) == asked


@given(st.text(max_size=200))
async def test_what_comes_out_does_not_depend_on_where_it_is_done(text: str) -> None:
    assert await Redaction(Edge(b"key"), CLOCK, Refusing()).reply(text) == Edge(b"key").reply(text)
