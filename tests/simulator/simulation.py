"""One seed: some events, some workers, all kinds of misfortune; then calm, and everything must be as if nothing had been.

Real: the hops, their runner, the sink, the router, the offsets, where a consumer begins, the facts' writer.
Simulated: clock, threads, broker, tables and judge. Faust is a loop that hands runs on.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from functools import cache
from typing import Any

import structlog

from feedback.facts.tables import TABLE_OF_TOPIC, TABLES
from feedback.intake.contract import Rejected
from feedback.intake.edge import Edge, Record
from feedback.records import Rating, Turn
from feedback.topics import DEAD_LETTERS, FACTS, JUDGE_REQUESTS
from streams import dead_letters
from streams.app import INGEST_GROUP, JUDGE_GROUP
from streams.hops import hop
from streams.hops.facts_sink import FactsSink
from streams.hops.hop import Work
from streams.hops.ingest import Ingest
from streams.hops.judge import JudgeHop
from streams.hops.questions import Questions
from streams.hops.waiting_turns import WaitingTurns
from streams.log import TP
from tests.simulator.broker import Broker, Consumer, SimProducer, Stream
from tests.simulator.facts import Reader, Table, Writer, applied, lose_last
from tests.simulator.judge import SimJudge, ledger
from tests.simulator.world import START_S, Deadlock, Loop, LoopClock, pause, virtual

GRACE_S = 4.0
TROUBLE_S = 12.0
CALM_WITHIN_S = 400.0
TURNS, POISON = 8, b"poison"
KEY = b"k" * 32


class Broken(Exception):
    """What must never be, was."""


class PoisonEdge(Edge):
    """Chokes on one record, as a fault of ours might."""

    def admit(self, value: bytes, headers: tuple[tuple[str, bytes], ...], now_us: int) -> Turn | Rating | Rejected:
        if value == POISON:
            raise RuntimeError("never seen before")
        return super().admit(value, headers, now_us)


EDGE = PoisonEdge(KEY)


@cache
def record_of(kind: str, number: int) -> Record:
    """Events of a small world: turns, and ratings of them."""
    common = {
        "conversation_id": f"c{number}",
        "turn_id": f"t{number}",
        "occurred_at": START_S - 60 + number,
        "user_id": "ann",
    }
    if kind == "turn":
        event: dict[str, Any] = {"event": "turn", "event_id": f"e{number}", "policy": "p", "reply": "yes"}
        event["messages"] = [{"role": "user", "content": f"question {number}"}]
    else:
        event = {"event": "rating", "event_id": f"r{number}", "kind": "thumbs", "source": "user", "value": True}
    made = EDGE.record_of({**event, **common}, START_S * 1_000_000)
    assert not isinstance(made, Rejected)
    return made


def _is_rated(number: int) -> bool:
    return number % 3 == 0


class Worker:
    """A process: its tasks die together."""

    def __init__(self, world: World) -> None:
        self._world = world
        world.started += 1
        self._number = world.started
        self.failed: BaseException | None = None
        self._assigned: asyncio.Task[None] | None = None
        producer = SimProducer(world.broker)
        self.router = WaitingTurns(GRACE_S, world.clock)
        writer = Writer(world.tables, world.loop, world.conflicts, world.tell)
        self._sink = FactsSink(writer, self._fail, world.clock)
        self._questions = Questions(producer, EDGE, world.clock)
        ingest = Ingest(EDGE, self._sink, producer, self._questions, self.router.observe, world.clock)
        answered = [verdict.request_id for verdict in Reader(world.tables).verdicts()]
        ask = SimJudge(world.loop, world.ledger, world.charge).judge
        judge = JudgeHop(ask, producer, EDGE, answered, patient=True, clock=world.clock)
        works: dict[str, Work] = dict.fromkeys(FACTS, ingest.events) | {
            "verdicts.given": ingest.verdicts,
            JUDGE_REQUESTS: judge.requests,
        }
        streams = {topic: Stream() for topic in works}
        self._consumers = [
            Consumer(world.broker, INGEST_GROUP, {topic: streams[topic] for topic in FACTS}, writer.applied),
            Consumer(
                world.broker, JUDGE_GROUP, {JUDGE_REQUESTS: streams[JUDGE_REQUESTS]}, lambda topic, partition: None
            ),
        ]
        jobs = [hop.consume(streams[topic], topic, work, self._fail, world.clock) for topic, work in works.items()]
        jobs += [consumer.run() for consumer in self._consumers]
        jobs += [self._sink.run(), self._housekeeping()]
        self._tasks = [world.loop.create_task(job) for job in jobs]
        for task in self._tasks:
            task.add_done_callback(self._ended)

    def assign(self, partitions: list[int]) -> None:
        """As after a rebalance."""
        self._world.tell(f"worker {self._number} is assigned {partitions}")
        for consumer in self._consumers:
            consumer.assign(partitions)
        if self._assigned is not None:
            self._assigned.cancel()
        self._assigned = self._world.loop.create_task(self._own(set(partitions)))

    async def _own(self, partitions: set[int]) -> None:
        facts: Any = Reader(self._world.tables)
        rebuilt = await asyncio.to_thread(self.router.rebuilt, partitions, facts, self._world.clock.now_us())
        self.router.own(partitions, rebuilt)

    async def kill(self) -> None:
        """At whatever await each task is."""
        self._world.tell(f"worker {self._number} is killed")
        begun = [self._assigned, *(consumer.seeking for consumer in self._consumers)]
        tasks = [*self._tasks, *(task for task in begun if task is not None)]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _fail(self, error: BaseException) -> None:
        self._world.tell(f"worker {self._number} fails: {error!r}")
        self.failed = self.failed or error

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._world.broken = f"a task ended with {error!r}"

    async def _housekeeping(self) -> None:
        try:
            while True:
                await self._questions.send(self.router.due(self._world.clock.now_us()))
                await asyncio.sleep(1)
        except Exception as error:
            self._fail(error)


class World:
    """Everything there is in one seed."""

    def __init__(self, loop: Loop, tell: Callable[[str], object]) -> None:
        self.loop, self.clock, self.tell, chance = loop, LoopClock(loop), tell, loop.chance
        self.tables = {name: Table() for name in TABLES}
        self.broker = Broker(loop, chance.randint(1, 3), self._check_commit, tell)
        self.broker.faults, self.conflicts = chance.choice((0.0, 0.05, 0.3)), chance.choice((0.0, 0.2))
        self.workers: list[Worker] = []
        self.started = 0
        self.sent: list[Record] = []
        self.power_losses = chance.random() < 0.3
        self.broken: str | None = None
        self._charged_usd, self._budget_usd = 0.0, chance.choice((1.0, 0.01, 0.005))
        self.ledger = ledger(self._budget_usd)

    def applied(self, place: TP) -> int:
        """Up to where a partition is among the facts."""
        return applied(self.tables, *place)

    def charge(self, cost_usd: float) -> None:
        """The judge's server wants its money."""
        self._charged_usd += cost_usd
        self.tell(f"the judge charges {cost_usd:.6f} $, {self._charged_usd:.6f} $ in all")
        if self._charged_usd > self._budget_usd:
            self.broken = f"the judge has cost {self._charged_usd} $, more than {self._budget_usd} $"

    async def live(self) -> None:
        """Trouble, then calm."""
        driver = self.loop.create_task(self._drive())
        await self._trouble()
        await driver
        self.broker.faults = self.conflicts = 0.0
        self.power_losses = False
        deadline = self.loop.time() + CALM_WITHIN_S
        quiet_since = self.loop.time()
        while self.loop.time() - quiet_since < GRACE_S + 3:
            await self._look_after()
            if not self.broker.done():
                quiet_since = self.loop.time()
            if self.loop.time() > deadline:
                raise Broken("the workers do not finish")
            await asyncio.sleep(0.5)
        await self._kill(*self.workers)
        self._verify()

    async def _drive(self) -> None:
        chance = self.loop.chance
        events = [record_of("turn", n) for n in range(TURNS)]
        events += [record_of("rating", n) for n in range(TURNS) if _is_rated(n)]
        events += [Record("turns.served", b"bad", b"{no json"), Record("turns.served", b"poison", POISON)]
        events += chance.choices(events, k=3)  # some come twice
        chance.shuffle(events)
        for event in events:
            await asyncio.sleep(chance.random() * TROUBLE_S / len(events) * 1.5)
            self.broker.append([event])
            self.sent.append(event)

    async def _trouble(self) -> None:
        chance = self.loop.chance
        self._rebalance(chance.randint(1, 2))
        while self.loop.time() < TROUBLE_S:
            await asyncio.sleep(chance.random() * 3)
            if self.power_losses and chance.random() < 0.2:
                await self._kill(*self.workers)
                self.tell("the power fails: the last commits are lost")
                for table in self.tables.values():
                    lose_last(table)
            elif chance.random() < 0.5:
                await self._kill(chance.choice(self.workers))
            await pause(self.loop)
            self._rebalance(chance.randint(1, 2))
            await self._look_after()

    async def _kill(self, *victims: Worker) -> None:
        for victim in victims:
            await victim.kill()
            self.workers.remove(victim)

    async def _look_after(self) -> None:
        """A worker that gave up is started again, as its supervisor would."""
        if self.broken is not None:
            raise Broken(self.broken)
        for worker in [worker for worker in self.workers if worker.failed is not None]:
            await self._kill(worker)
            self._rebalance(len(self.workers) + 1)

    def _rebalance(self, count: int) -> None:
        while len(self.workers) < count:
            self.workers.append(Worker(self))
        for number, worker in enumerate(self.workers):
            worker.assign([p for p in range(self.broker.partitions) if p % len(self.workers) == number])

    def _check_commit(self, group: str, place: TP, offset: int) -> None:
        """Nothing is done before it is among the facts. (A poison record never is: it is a dead letter.)"""
        if group != INGEST_GROUP or self.power_losses:
            return
        early = [r for r in self.broker.records[place][self.applied(place) : offset] if r.value != POISON]
        if early:
            self.broken = f"{place} was committed up to {offset}, but the facts end at {self.applied(place)}"

    def _verify(self) -> None:
        facts = Counter(
            (batch.topic, batch.partition, row.offset) for table in self.tables.values() for batch, row in table.rows
        )
        letters = Counter(
            letter["value"]
            for place, kept in self.broker.records.items()
            if place[0] == DEAD_LETTERS
            for letter in ({"value": dead_letters._decode(stored.value).value} for stored in kept)
        )
        for (topic, partition), kept in self.broker.records.items():
            if topic not in TABLE_OF_TOPIC:
                continue
            for stored in kept:
                bad = stored.value in (POISON, b"{no json")
                times = facts[topic, partition, stored.offset]
                if times != (0 if bad else 1):
                    raise Broken(f"{topic}/{partition} at {stored.offset} is {times} facts")
                if bool(letters[stored.value]) != bad:
                    raise Broken(f"{topic}/{partition} at {stored.offset}: {letters[stored.value]} dead letters")
        judged = {verdict.turn_id for verdict in Reader(self.tables).verdicts()}
        unjudged = {f"t{number}" for number in range(TURNS) if not _is_rated(number)} - judged
        if unjudged:
            raise Broken(f"nobody judged {sorted(unjudged)}")


def simulate(seed: int, tell: Callable[[str], object] = lambda line: None) -> str | None:
    """What was wrong in one seed; None when nothing was. `tell` hears what happens."""
    logging = structlog.get_config()
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory())
    with virtual(random.Random(seed)) as loop:
        try:
            loop.run_until_complete(World(loop, lambda line: tell(f"{loop.time():9.4f}  {line}")).live())
        except (Broken, Deadlock) as wrong:
            return f"{type(wrong).__name__}: {wrong}"
        finally:
            left = asyncio.all_tasks(loop)
            for task in left:
                task.cancel()
            loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
            structlog.configure(**logging)
    return None
