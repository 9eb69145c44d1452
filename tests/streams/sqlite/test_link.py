"""The embedded log's ways in and out: on that very file, by our clock, from where the facts end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from feedback.intake.edge import Record
from streams.app import App
from streams.sqlite.link import link
from streams.sqlite.log import SqliteLog
from tests.fakes import CLOCK, ManualClock


@pytest.mark.parametrize("name", ["log.db", "a folder/50 % ü.db", "no #1/log.db", "why?/log.db", "a%20b/log.db"])
async def test_who_reads_and_who_sends_use_that_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(name).parent.mkdir(exist_ok=True)
    linked = link(SqliteLog(Path(name), CLOCK, partitions=1), CLOCK)
    producer = linked.producer()
    await producer.send([Record("a", b"k", b"v")])
    await producer.close()
    transport: Any = linked.transport(App("g", store="memory://"), lambda topic, partition: None)
    assert [stored.value for stored in transport.log.read("a", 0, 0, 9)] == [b"v"]
    assert transport.log.identity("a") == linked.log.identity("a")


async def test_its_reader_goes_by_our_clock_and_begins_where_the_facts_end(tmp_path: Path) -> None:
    clock = ManualClock()
    linked = link(SqliteLog(tmp_path / "log.db", CLOCK), clock)
    transport: Any = linked.transport(App("g", store="memory://"), lambda topic, partition: 7)
    assert transport.clock is clock
    assert transport.starts("a", 0) == 7
