"""The topology: which hop reads which topic. The same hops run on the
embedded log and on Kafka.

turns.served ──┐
ratings.given ─┼─► ingest ──► facts            app "trimtab-ingest"
verdicts.given ┘      └─► judge.requests
judge.requests ─► judge ─► verdicts.given      app "trimtab-judge"
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import faust
from faust.tables import TableManager

from feedback.clock import Clock
from feedback.topics import FACTS, JUDGE_REQUESTS, RATINGS, TURNS, VERDICTS
from streams.hops.hop import Fatal, Work, consume
from streams.hops.ingest import Ingest
from streams.hops.judge import JudgeHop
from streams.link import Link
from streams.log import Starts

INGEST_GROUP = "trimtab-ingest"
JUDGE_GROUP = "trimtab-judge"
GROUPS = {**dict.fromkeys(FACTS, INGEST_GROUP), JUDGE_REQUESTS: JUDGE_GROUP}
"""Which group does which topic."""

NOISY = ("faust", "mode", "aiokafka", __name__, "streams.sqlite.transport", "streams.kafka.transport")
"""Loggers of libraries; Faust's log under our subclasses' modules too, where we ourselves use structlog."""

EVENTS_WAITING = 4
"""Runs that may wait in a stream's buffer: each holds hundreds of records."""


class App(faust.App):
    """A Faust app that keeps nothing on disk; Faust would make three directories wherever it was started."""

    def _create_directories(self) -> None:
        pass


class NoTables(TableManager):
    """Faust waits a second at every start for tables to be declared; we keep none (all state is rebuilt from facts)."""

    async def on_start(self) -> None:
        await self._update_channels()
        await self.recovery.start()


def build_ingest(link: Link, ingest: Ingest, fatal: Fatal, starts: Starts, clock: Clock) -> faust.App:
    """The app that writes facts."""
    works: dict[str, Work] = {
        TURNS: ingest.events,
        RATINGS: ingest.events,
        VERDICTS: ingest.verdicts,
    }
    return _app(INGEST_GROUP, link, works, fatal, starts, clock)


def build_judge(link: Link, hop: JudgeHop, fatal: Fatal, clock: Clock) -> faust.App:
    """The app that asks the judge."""
    works: dict[str, Work] = {JUDGE_REQUESTS: hop.requests}
    return _app(JUDGE_GROUP, link, works, fatal, lambda topic, partition: None, clock)


def _app(
    group: str,
    link: Link,
    works: dict[str, Work],
    fatal: Fatal,
    starts: Starts,
    clock: Clock,
) -> faust.App:
    for noisy in NOISY:
        logging.getLogger(noisy).setLevel(logging.ERROR)
    app = App(
        link.log.prefix + group,
        store="memory://",
        web_enabled=False,
        topic_disable_leader=True,
        stream_buffer_maxsize=EVENTS_WAITING,
        stream_wait_empty=False,
        broker_commit_interval=0.5,
        topic_allow_declare=False,  # they are made before, with the partitions and the retention they need
        TableManager=NoTables,
    )
    app.transport = app.producer_transport = link.transport(app, starts)
    for topic, work in works.items():
        app.agent(
            app.topic(link.log.prefix + topic, key_serializer="raw", value_serializer="raw"), name=f"{group}-{topic}"
        )(_agent(topic, work, fatal, clock))
    return app


def _agent(topic: str, work: Work, fatal: Fatal, clock: Clock) -> Callable[[Any], Any]:
    async def agent(stream: Any) -> None:
        await consume(stream, topic, work, fatal, clock)

    return agent
