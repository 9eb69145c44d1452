"""Feed recorded events through the whole loop, once, and say what came of every one of them.

The file reader is an edge like the gateway: it validates, redacts and signs, then everything takes the way that live
events take. The replay may be killed at any moment: run again, it ends in the same dataset.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from msgspec import Struct

from deploy.control.store import Control
from deploy.errors import Failed
from deploy.parts import make_ask, open_log, open_worker
from deploy.settings import Settings
from deploy.state import State
from deploy.training.train import newest_event_us
from feedback.clock import Clock
from feedback.dataset import census
from feedback.facts.reader import Facts
from feedback.facts.tables import TABLE_OF_TOPIC
from feedback.intake.contract import Rejected
from feedback.intake.edge import Edge, Record
from feedback.intake.event_files import Line, lines
from feedback.judge import routing
from feedback.labels import exchanges
from feedback.topics import DEAD_LETTERS, EVENTS, TURNS
from streams import dead_letters
from streams.log import TP, Log
from streams.worker import Worker

SEND_EVERY = 500
"""Lines that are sent together."""


class Intake(Struct, frozen=True):
    """What one run read, line by line. `events` = turns + ratings + duplicates + dead letters."""

    events: int
    turns: int
    ratings: dict[str, int]
    duplicates: int
    dead_letters: dict[str, int]


async def run(
    files: Sequence[Path],
    state: State,
    settings: Settings,
    control: Control,
    clock: Clock,
    progress: Callable[[str, int, int], object],
) -> Intake:
    """Take the files in, judge what nobody rated (where there is a judge), and account for every line.

    `progress` is told (step, done, total); total 0 where it is the size of the files.
    """
    log = open_log(state, settings, clock)
    start = Start.now(log, clock.now_us())
    facts = Facts(state.facts)
    edge = Edge(state.secret("edge"))
    ask = make_ask(settings.judge, control, clock, lambda: newest_event_us(facts))
    async with open_worker(log, state, settings, edge, ask, None, clock) as worker:
        read = await feed(files, worker, edge, clock, lambda done: progress("reading", done, 0))
        waiting = sum((await worker.lag()).values())
        await worker.drained(lambda lag: progress("taking in", waiting - min(waiting, sum(lag.values())), waiting))
        if ask is not None:
            await _judge(worker, facts, progress)
    return intake(log, facts, start, read)


async def _judge(worker: Worker, facts: Facts, progress: Callable[[str, int, int], object]) -> None:
    """A replay routes once, at the end of its input: what nobody rated and no verdict speaks of."""
    counted = census.take(facts.turns())  # of turns that come twice, the payload that a seal would take
    said = exchanges.said(facts.ratings(), facts.verdicts(), counted.known, 2**62)
    settled = {key for key, ratings in said.ratings.items() if exchanges.is_rated(ratings)} | said.verdicts.keys()
    everything = counted.payloads(np.arange(len(counted)))
    requests = routing.unrouted((turn for turn, _ in facts.turns(only=everything)), settled)
    await worker.questions.send(requests)
    await worker.drained(
        lambda lag: progress("judging", len(requests) - min(len(requests), sum(lag.values())), len(requests))
    )


async def feed(
    files: Sequence[Path], worker: Worker, edge: Edge, clock: Clock, progress: Callable[[int], object] = lambda _: None
) -> int:
    """Send every line of the files; returns how many lines were read (blank ones do not count)."""
    count, before = 0, 0
    for path in files:
        waiting: list[Record] = []
        at = 0

        def note(position: int) -> None:
            nonlocal at
            at = position

        for line in lines(path, note):
            waiting.append(_record(line, path, edge, clock.now_us()))
            count += 1
            if len(waiting) >= SEND_EVERY:
                await worker.producer.send(waiting)
                waiting = []
                progress(before + at)
        await worker.producer.send(waiting)
        before += path.stat().st_size
        progress(before)
    return count


class Start(Struct, frozen=True):
    """Where a run begins: take it before the first line is sent."""

    ends: dict[TP, int]
    at_us: int

    @classmethod
    def now(cls, log: Log, now_us: int) -> Start:
        return cls(log.ends(), now_us)


def intake(log: Log, facts: Facts, start: Start, read: int) -> Intake:
    """What became of the lines, counted from the facts and the dead letters themselves.

    Raises Failed when the sum is not what was read: an event that nobody can account for must never pass in silence.
    """
    turns, ratings, duplicates = 0, Counter[str](), 0
    for topic in EVENTS:
        table = TABLE_OF_TOPIC[topic]
        columns = facts.columns(table, ["tenant", "event_id", "partition", "offset", "received_at_us"])
        rows = zip(*(columns.column(name).to_pylist() for name in columns.column_names), strict=True)
        known: set[tuple[str, str]] = set()
        fresh: list[tuple[str, str]] = []
        for tenant, event_id, partition, offset, received_at_us in rows:
            if offset >= start.ends.get((topic, partition), 0) and received_at_us >= start.at_us:
                fresh.append((tenant, event_id))
            else:
                known.add((tenant, event_id))
        new = set(fresh) - known
        duplicates += len(fresh) - len(new)
        if topic == TURNS:
            turns = len(new)
        else:
            ratings.update(_kinds(facts, new))
    dead = Counter(
        letter.reason
        for letter in dead_letters.read(
            log, {partition: offset for (topic, partition), offset in start.ends.items() if topic == DEAD_LETTERS}
        )
    )
    accounted = turns + ratings.total() + duplicates + dead.total()
    if accounted != read:
        raise Failed(f"{read} events were read but {accounted} are accounted for: please report this, with the log")
    return Intake(read, turns, dict(sorted(ratings.items())), duplicates, dict(sorted(dead.items())))


def _kinds(facts: Facts, new: set[tuple[str, str]]) -> Counter[str]:
    """Kinds of the new ratings, each event once."""
    kinds: dict[tuple[str, str], str] = {}
    for rating, _ in facts.ratings():
        name = (rating.tenant, rating.event_id)
        if name in new:
            kinds[name] = min(rating.kind, kinds.get(name, rating.kind))
    return Counter(kinds.values())


def _record(line: Line, path: Path, edge: Edge, now_us: int) -> Record:
    made = line.rejected or edge.record(line.raw, now_us)
    if isinstance(made, Rejected):
        return dead_letters.dead_letter(made, line.raw, now_us, file=path.name, line=line.number)
    return made
