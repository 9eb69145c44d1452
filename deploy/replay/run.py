"""Feed recorded events through the whole loop, once, and say what came of every one of them.

The file reader is an edge like the gateway: it validates, redacts and signs, then everything takes the way that live
events take. The replay may be killed at any moment: run again, it ends in the same dataset.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path

from deploy.control.store import Control
from deploy.parts import make_ask, open_log, open_worker
from deploy.replay.intake import Intake, Start, intake
from deploy.replay.judging import estimated, open_questions
from deploy.settings import Settings
from deploy.state import State
from deploy.training.train import newest_event_us
from feedback.clock import Clock
from feedback.facts.reader import Facts
from feedback.intake.contract import Rejected
from feedback.intake.edge import Edge, Record
from feedback.intake.event_files import Line, lines
from feedback.judge.estimate import Estimate
from feedback.records import JudgeRequest
from streams import dead_letters
from streams.log import Log
from streams.worker import Worker

Reader = Callable[[Path, Callable[[int], object]], Iterator[Line]]
"""Reads a file as events, a line each, and tells how many bytes of it were read so far."""

Consent = Callable[[Estimate], bool]

SEND_EVERY = 500
"""Lines that are sent together."""


async def run(
    files: Sequence[Path],
    state: State,
    settings: Settings,
    control: Control,
    clock: Clock,
    progress: Callable[[str, int, int], object],
    reader: Reader = lines,
    consent: Consent = lambda _: True,
) -> Intake:
    """Take the files in, judge what nobody rated (where there is a judge), and account for every line.

    `consent` is told what the judge's questions will come to, in a thread, and says whether they are asked. `progress` is told (step, done, total); total 0 where it is the size of the files.
    """
    log = open_log(state, settings, clock)
    start = Start.now(log)
    facts = Facts(state.facts)
    edge = Edge(state.secret("edge"))
    ask = make_ask(settings.judge, control, clock, lambda: newest_event_us(facts))
    async with open_worker(log, state, settings, edge, ask, None, clock) as worker:
        sender = Sender(worker, edge, start, clock, log)
        read = await feed(files, reader, sender, lambda done: progress("reading", done, 0))
        waiting = sum((await worker.lag()).values())
        await worker.drained(lambda lag: progress("taking in", waiting - min(waiting, sum(lag.values())), waiting))
        if ask is not None:
            requests = open_questions(facts)
            agreed: bool = bool(requests) and await asyncio.to_thread(consent, estimated(requests, settings.judge))
            if agreed:
                await _judge(worker, requests, progress)
    return intake(log, facts, start, read, sender.known)


async def _judge(worker: Worker, requests: list[JudgeRequest], progress: Callable[[str, int, int], object]) -> None:
    await worker.questions.send(requests)
    await worker.drained(
        lambda lag: progress("judging", len(requests) - min(len(requests), sum(lag.values())), len(requests))
    )


class Sender:
    """Sends lines as one run's records. A line that has its dead letter already gets no other: it is only counted."""

    def __init__(self, worker: Worker, edge: Edge, start: Start, clock: Clock, log: Log) -> None:
        self._worker, self._edge, self._start, self._clock, self._log = worker, edge, start, clock, log
        self.known = Counter[str]()
        """Lines that were refused as they were in an earlier run, by reason."""

    async def send(self, lines: Sequence[Line], path: Path) -> None:
        """Send lines of one file; raises what the producer raises."""
        made = [self._record(line, path) for line in lines]
        await self._worker.producer.send([record for record in made if record is not None])

    def _record(self, line: Line, path: Path) -> Record | None:
        now_us = self._clock.now_us()
        try:
            made = line.rejected or self._edge.record(line.raw, now_us, "file")
        except Exception as error:  # what nobody foresaw stops no replay either
            made = Rejected("poison", "", f"{type(error).__name__}: {error}")
        if isinstance(made, Rejected):
            if hash((path.name, line.number, None, line.raw)) in self._kept:
                self.known[made.code] += 1
                return None
            made = dead_letters.dead_letter(made, line.raw, now_us, file=path.name, line=line.number)
        return self._start.marked(made)

    @cached_property
    def _kept(self) -> set[int]:
        """Of the runs before this one; looked up once something is refused."""
        return dead_letters.lines_kept(self._log)


async def feed(files: Sequence[Path], read: Reader, sender: Sender, progress: Callable[[int], object]) -> int:
    """Send every line of the files; returns how many lines were read (blank ones do not count)."""
    count, before = 0, 0
    for path in files:
        waiting: list[Line] = []
        at = 0

        def note(position: int) -> None:
            nonlocal at
            at = position

        for line in read(path, note):
            waiting.append(line)
            count += 1
            if len(waiting) >= SEND_EVERY:
                await sender.send(waiting, path)
                waiting = []
                progress(before + at)
        await sender.send(waiting, path)
        before += path.stat().st_size
        progress(before)
    return count
