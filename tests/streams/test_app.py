"""Which app reads which topic, under which names; and that an app leaves nothing where it was started."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import faust
import pytest
from faust.tables import TableManager

from feedback.topics import FACTS, JUDGE_REQUESTS
from streams.app import GROUPS, INGEST_GROUP, JUDGE_GROUP, build_ingest, build_judge
from streams.hops.hop import Ack, Run
from streams.sqlite.link import link
from streams.sqlite.log import SqliteLog
from tests.fakes import CLOCK, DEADLINE_S
from tests.streams.test_worker import drain, signed, turn


class Named(SqliteLog):
    """A log of a deployment that shares its cluster with others."""

    prefix = "shop."


class Hops:
    """In the place of both hops: remembers what each is given."""

    def __init__(self) -> None:
        self.given: dict[str, list[bytes]] = {}
        self.some = asyncio.Event()

    def _taking(self, name: str) -> Any:
        async def work(run: Run, ack: Ack) -> None:
            self.given.setdefault(name, []).extend(record.value for record in run)
            ack()
            self.some.set()

        return work

    @property
    def events(self) -> Any:
        return self._taking("events")

    verdicts = property(lambda self: self._taking("verdicts"))
    requests = property(lambda self: self._taking("requests"))


def never(error: BaseException) -> None:
    raise AssertionError(error)


def no_starts(topic: str, partition: int) -> int | None:
    return 0


Build = Callable[[Named, Any], faust.App]
BUILD: dict[str, Build] = {
    INGEST_GROUP: lambda log, hops: build_ingest(link(log, CLOCK), hops, never, no_starts, CLOCK),
    JUDGE_GROUP: lambda log, hops: build_judge(link(log, CLOCK), hops, never, CLOCK),
}


@pytest.mark.parametrize("group", BUILD)
async def test_each_topic_is_read_by_one_app_under_the_clusters_name_for_it(tmp_path: Path, group: str) -> None:
    app = BUILD[group](Named(tmp_path / "log.db", CLOCK), Hops())
    mine = {topic for topic, does in GROUPS.items() if does == group}
    assert app.conf.id == f"shop.{group}"
    assert sorted(name for agent in app.agents.values() for name in agent.channel.topics) == sorted(
        f"shop.{topic}" for topic in mine
    )


def test_every_topic_of_facts_and_the_judges_questions_is_done_by_somebody() -> None:
    assert set(GROUPS) == {*FACTS, JUDGE_REQUESTS}


async def test_the_judges_questions_begin_where_the_group_stands_alone(tmp_path: Path) -> None:
    """They become no facts that could say how far they were done."""
    log = Named(tmp_path / "log.db", CLOCK)
    assert BUILD[JUDGE_GROUP](log, Hops()).transport.starts(JUDGE_REQUESTS, 0) is None
    assert BUILD[INGEST_GROUP](log, Hops()).transport.starts(FACTS[0], 0) == 0


async def test_an_app_leaves_nothing_where_it_was_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    await drain(tmp_path, SqliteLog(tmp_path / "log.db", CLOCK), [signed(turn(1))])
    assert list((tmp_path / "here").iterdir()) == []


async def test_an_app_without_tables_does_not_wait_for_any(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def for_ever(*_: Any) -> None:
        await asyncio.get_running_loop().create_future()

    monkeypatch.setattr(TableManager, "sleep", for_ever)  # Faust's own sleeps a second when it starts
    log, hops = SqliteLog(tmp_path / "log.db", CLOCK, partitions=1), Hops()
    log.append([signed(turn(1))])
    app = build_ingest(link(log, CLOCK), hops, never, no_starts, CLOCK)  # type: ignore[arg-type]
    await app.start()
    async with CLOCK.timeout(DEADLINE_S):
        await hops.some.wait()
    await app.stop()
    assert len(hops.given["events"]) == 1
