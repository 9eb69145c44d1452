"""What goes wrong beside the hops: a broker that is away is waited for, a consumer that ended ends the worker."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from faust.types import TP
from prometheus_client import REGISTRY

from feedback.digests import edit_digest
from feedback.facts.reader import Facts
from feedback.facts.tables import Batch, Row
from feedback.facts.writer import FactsWriter
from feedback.intake.edge import Edge, content_hash
from feedback.records import JudgeRequest
from feedback.topics import TURNS
from streams.app import INGEST_GROUP
from streams.hops.questions import Questions
from streams.hops.waiting_turns import WaitingTurns
from streams.housekeeping import STALLED_S, TICK_S, TRIM_S, Housekeeping
from streams.log import KEPT_S, LogError
from streams.sqlite.log import SqliteLog
from streams.watchdog import Stalled
from tests.fakes import CLOCK, ManualClock, MemoryProducer, until
from tests.feedback import builders
from tests.streams.test_worker import KEY, signed, turn

GROUPS = {TURNS: INGEST_GROUP}


class House:
    """Housekeeping over a real log of one partition, whose records nobody does."""

    def __init__(self, root: Path) -> None:
        self.clock, self.failed = ManualClock(CLOCK.now_us()), list[BaseException]()
        self.log = SqliteLog(root / "log.db", self.clock, partitions=1)
        self.log.append([signed(turn(1))])
        self.app: Any = SimpleNamespace(
            crashed=False,
            crash_reason=None,
            conf=SimpleNamespace(id=INGEST_GROUP),
            consumer=SimpleNamespace(assignment=lambda: {TP(TURNS, 0)}),
        )
        questions = Questions(MemoryProducer(), Edge(KEY), self.clock)
        self.keeping = Housekeeping(self.log, GROUPS, [self.app], questions, None, Facts(root / "facts"), self.clock)

    async def seconds(self, seconds: float) -> None:
        """Look, and again after so long."""
        task = asyncio.create_task(self.keeping.run(self.failed.append))
        await until(lambda: task.done() or self.clock.waiting == 1)
        self.clock.set_forward(seconds - TICK_S)
        await self.clock.advance(TICK_S)
        await until(lambda: task.done() or self.clock.waiting == 1)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


def lag() -> float | None:
    return REGISTRY.get_sample_value("trimtab_lag_records", {"topic": TURNS, "group": INGEST_GROUP})


async def test_the_lag_is_told(house: House) -> None:
    await house.seconds(TICK_S)
    assert lag() == 1
    assert house.failed == []


async def test_a_log_that_can_not_be_asked_is_asked_again(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    def away() -> dict[Any, int]:
        raise LogError("no broker answers")

    with monkeypatch.context() as patched:
        patched.setattr(house.log, "ends", away)
        await house.seconds(TICK_S)
    assert house.failed == []
    house.log.append([signed(turn(2))])
    await house.seconds(TICK_S)
    assert lag() == 2


async def test_a_consumer_that_ended_ends_the_worker(house: House) -> None:
    house.app.crashed, house.app.crash_reason = True, OSError("socket closed")
    await house.seconds(TICK_S)
    assert [str(error) for error in house.failed] == [f"the consumer of {INGEST_GROUP} ended: OSError('socket closed')"]


async def test_a_partition_whose_lag_grows_while_nothing_moves_ends_the_worker(house: House) -> None:
    await house.seconds(TICK_S)
    house.log.append([signed(turn(2))])
    await house.seconds(STALLED_S + 1)
    assert [type(error) for error in house.failed] == [Stalled]


async def test_what_is_done_and_old_is_trimmed_within_an_hour(house: House) -> None:
    house.log.commit(INGEST_GROUP, {(TURNS, 0): 1})
    await house.seconds(TRIM_S + 1)
    assert len(house.log.read(TURNS, 0, 0, 9)) == 1, "done, but not old"
    house.clock.set_forward(KEPT_S)
    await house.seconds(TICK_S)
    assert house.log.read(TURNS, 0, 0, 9) == []


async def test_an_edit_by_somebody_without_a_name_is_asked_about_when_its_grace_is_over(tmp_path: Path) -> None:
    house, producer = House(tmp_path), MemoryProducer()
    served, edit = builders.turn("t1", reply="here"), builders.rating("e", "t1", "edit", "over there", user_id=None)
    row = Row(served, content_hash(served), "d", 0, house.clock.now_us())
    FactsWriter(tmp_path / "facts", house.log.identity, house.clock).commit([Batch(TURNS, 0, (row,), 1)])
    router = WaitingTurns(60.0, house.clock)
    router.observe(0, edit, house.clock.now_us())
    house.keeping._router, house.keeping._questions = router, Questions(producer, Edge(KEY), house.clock)
    await house.seconds(30)
    assert producer.records == []
    await house.seconds(31)
    (asked,) = (msgspec.json.decode(record.value, type=JudgeRequest) for record in producer.records)
    assert (asked.reply, asked.other_reply, asked.edit) == ("over there", "here", edit_digest("here", "over there"))
