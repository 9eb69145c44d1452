"""What a worker does every second beside its hops: route what has become due, tell the lag, trim what is done and old; and
end the worker when a consumer has ended or nothing moves.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence

import faust
import structlog
from faust.exceptions import ConsumerNotStarted

from feedback.clock import Clock
from feedback.facts.reader import Facts
from feedback.topics import JUDGE_REQUESTS
from streams import metrics
from streams.hops.questions import Questions
from streams.hops.waiting_turns import WaitingTurns, edit_questions
from streams.log import KEPT_S, TP, Log, LogError, lag_of, standings
from streams.watchdog import Watchdog

TICK_S = 1.0
STALLED_S = 120.0
TRIM_S = 3_600.0
log = structlog.get_logger()


class Housekeeping:
    """One worker's. `groups` names each topic's group; the first of `apps` is the one whose partitions are watched."""

    def __init__(
        self,
        events: Log,
        groups: Mapping[str, str],
        apps: Sequence[faust.App],
        questions: Questions,
        router: WaitingTurns | None,
        facts: Facts,
        clock: Clock,
    ) -> None:
        self._facts = facts
        self._log, self._groups, self._apps, self._clock = events, groups, apps, clock
        self._questions, self._router = questions, router
        self._watchdogs = defaultdict[TP, Watchdog](lambda: Watchdog(STALLED_S))
        self._trimmed_s = clock.monotonic_s()

    async def run(self, fail: Callable[[BaseException], None]) -> None:
        """Until it is cancelled; calls `fail` and returns when the worker can't go on."""
        while True:
            try:
                await self._look()
            except Exception as error:
                fail(error)
                return
            await self._clock.sleep(TICK_S)

    async def _look(self) -> None:
        for app in self._apps:
            if app.crashed:
                raise LogError(f"the consumer of {app.conf.id} ended: {app.crash_reason!r}")
        if self._router is not None:
            now_us = self._clock.now_us()
            await self._questions.send(self._router.due(now_us))
            if edits := self._router.due_edits(now_us):
                await self._questions.send(await asyncio.to_thread(edit_questions, self._facts, edits))
        await self._tell_lag()
        if self._clock.monotonic_s() - self._trimmed_s > TRIM_S:
            self._trimmed_s = self._clock.monotonic_s()
            await asyncio.to_thread(self._log.trim, self._clock.now_us() - KEPT_S * 1_000_000, self._groups)

    async def _tell_lag(self) -> None:
        """To the metrics, and to the watchdogs. A broker that is away comes back, or the hops end the worker."""
        try:
            places = await asyncio.to_thread(standings, self._log, self._groups)
            behind = lag_of(places, self._groups)
            self._questions.backlog = behind.get(JUDGE_REQUESTS, 0)
            for topic, records in behind.items():
                metrics.LAG.labels(topic=topic, group=self._groups[topic]).set(records)
            assigned = self._apps[0].consumer.assignment()
            ours = {(tp.topic.removeprefix(self._log.prefix), tp.partition) for tp in assigned} & places.keys()
            for gone in self._watchdogs.keys() - ours:
                del self._watchdogs[gone]
            for place in ours:
                self._watchdogs[place].look(places[place].lag, places[place].done, self._clock.monotonic_s())
        except LogError as error:
            log.warning("lag_unknown", error=str(error))
        except ConsumerNotStarted:  # the consumer's thread is still on its way up
            return
