"""Sending to the embedded log: what was sent is on it, each sender's records in order, few fsyncs for many senders."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from pathlib import Path

import pytest

from feedback.intake.edge import Record
from streams.log import LogError
from streams.sqlite.log import SqliteLog
from streams.sqlite.producer import SqliteProducer
from tests.fakes import CLOCK

SENDERS, EACH = 50, 3


class Counting(SqliteLog):
    """Counts its transactions."""

    appends = 0

    def append(self, records: Iterable[Record]) -> list[int]:
        self.appends += 1
        return super().append(records)


def records(sender: int) -> list[Record]:
    return [Record("a", b"%d" % sender, b"%d.%d" % (sender, number)) for number in range(EACH)]


async def test_many_senders_share_few_transactions_and_each_keeps_its_order(tmp_path: Path) -> None:
    log = Counting(tmp_path / "log.db", CLOCK, partitions=1)
    producer = SqliteProducer(log)
    await asyncio.gather(*(producer.send(records(sender)) for sender in range(SENDERS)))
    await producer.close()
    found = log.read("a", 0, 0, 1_000)
    for sender in range(SENDERS):
        assert [stored.value for stored in found if stored.key == b"%d" % sender] == [r.value for r in records(sender)]
    assert len(found) == SENDERS * EACH
    assert log.appends < SENDERS / 2


async def test_what_was_sent_is_on_the_log_when_send_returns(tmp_path: Path) -> None:
    log = SqliteLog(tmp_path / "log.db", CLOCK, partitions=1)
    producer = SqliteProducer(log)
    await producer.send(records(1))
    assert len(SqliteLog(tmp_path / "log.db", CLOCK).read("a", 0, 0, 9)) == EACH
    await producer.send([])
    await producer.close()


async def test_one_that_was_closed_takes_nothing_more(tmp_path: Path) -> None:
    log = SqliteLog(tmp_path / "log.db", CLOCK, partitions=1)
    producer = SqliteProducer(log)
    await producer.close()
    with pytest.raises(LogError, match="closed"):
        await producer.send(records(1))
    assert log.ends() == {}
