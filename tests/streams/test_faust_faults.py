"""Ways in which Faust alone loses or stalls messages, each reproduced with a naive agent, and none of them with our hops.

The naive form is Faust as its manual shows it, on a real Kafka. Where it stops losing messages one day, its test fails:
then what we do about it can go.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import faust
import pytest

from deploy.parts import link_to
from feedback.facts.reader import Facts
from feedback.intake.edge import Edge, Record
from feedback.records import Judgement, JudgeRequest
from streams.app import App, NoTables
from streams.hops.hop import Ack, Run, consume
from streams.log import lag
from streams.runs import RUN
from streams.sqlite.log import SqliteLog
from streams.worker import Worker
from tests.fakes import CLOCK, until
from tests.streams.test_worker import KEY, request, signed, turn

if TYPE_CHECKING:
    from streams.kafka.log import KafkaLog

TOPIC, GROUP, RECORDS = "work", "group", 20


class Failing:
    """Handles values; the first time that it meets `poison` it raises."""

    def __init__(self, poison: bytes) -> None:
        self._poison: bytes | None = poison
        self.handled: list[bytes] = []

    def __call__(self, value: bytes) -> None:
        if value == self._poison:
            self._poison = None
            raise RuntimeError("a moment's trouble")
        self.handled.append(value)


Form = Callable[[Any, Callable[[bytes], None]], Awaitable[None]]


async def naively(stream: Any, handle: Callable[[bytes], None]) -> None:
    async for value in stream:
        handle(value)


async def naively_with_noack(stream: Any, handle: Callable[[bytes], None]) -> None:
    async for event in stream.noack().events():
        handle(event.value)
        event.ack()


async def naively_with_take(stream: Any, handle: Callable[[bytes], None]) -> None:
    async for values in stream.take(5, within=0.05):
        for value in values:
            handle(value)


class Sent:
    """Takes dead letters."""

    def __init__(self) -> None:
        self.records: list[Record] = []

    async def send(self, records: Any) -> None:
        self.records += records

    async def close(self) -> None:
        pass


async def our_way(stream: Any, handle: Callable[[bytes], None]) -> None:
    done: set[bytes] = set()

    async def work(run: Run, ack: Ack) -> None:
        for record in run:
            if record.value not in done:
                handle(record.value)
                done.add(record.value)
        ack()

    failures: list[BaseException] = []
    await consume(stream, TOPIC, work, failures.append, CLOCK)
    assert failures == []


@pytest.fixture
def log(kafka_servers: str, prefix: str) -> Iterator[KafkaLog]:
    """A topic of one partition that holds the numbers up to RECORDS."""
    from streams.kafka.access import KafkaAccess
    from streams.kafka.log import KafkaLog

    made = KafkaLog(KafkaAccess(kafka_servers), CLOCK, partitions=1, prefix=prefix)
    made.create_topic(TOPIC)
    made.append([Record(TOPIC, b"key", f"{number}".encode()) for number in range(RECORDS)])
    yield made
    made.close()


def naive_app(log: KafkaLog, agent: Callable[[Any], Awaitable[None]], **options: Any) -> faust.App:
    """Faust with its own driver."""
    app = App(log.prefix + GROUP, broker=f"kafka://{log.access.servers}", store="memory://", web_enabled=False,
              topic_disable_leader=True, TableManager=NoTables, broker_commit_interval=0.05, stream_wait_empty=False,
              consumer_auto_offset_reset="earliest")  # fmt: skip
    app.agent(app.topic(log.prefix + TOPIC, key_serializer="raw", value_serializer="raw"), **options)(agent)
    return app


def our_app(log: KafkaLog, agent: Callable[[Any], Awaitable[None]]) -> faust.App:
    """The same with our transport."""
    app = naive_app(log, agent)
    app.transport = app.producer_transport = link_to(log, CLOCK).transport(app, lambda topic, partition: None)
    return app


async def run_until_committed(log: KafkaLog, app: faust.App) -> None:
    """Until the group has committed all there is, whatever became of it."""
    await app.start()
    await until(lambda: lag(log, {TOPIC: GROUP})[TOPIC] == 0)
    await app.stop()


class TestOnKafka:
    pytestmark = pytest.mark.kafka

    @pytest.mark.parametrize("form", [naively, naively_with_noack, naively_with_take])
    async def test_alone_it_commits_past_a_message_whose_handler_raised(self, log: KafkaLog, form: Form) -> None:
        handle = Failing(b"1")
        await run_until_committed(log, naive_app(log, lambda stream: form(stream, handle)))
        assert b"1" not in handle.handled, "Faust keeps it now: our own retry may go"

    async def test_with_our_hop_a_message_whose_handler_raised_is_handled(self, log: KafkaLog) -> None:
        handle = Failing(b"1")
        await run_until_committed(log, our_app(log, lambda stream: our_way(stream, handle)))
        assert sorted(handle.handled) == sorted(f"{number}".encode() for number in range(RECORDS))

    async def test_alone_with_two_at_once_it_commits_past_a_message_in_flight(self, log: KafkaLog) -> None:
        done: list[bytes] = []

        async def agent(stream: Any) -> None:
            async for value in stream:
                if value == b"0":
                    await asyncio.get_running_loop().create_future()  # in flight, for as long as this process lives
                done.append(value)

        app = naive_app(log, agent, concurrency=2)
        await app.start()
        await until(lambda: log.committed(GROUP).get((TOPIC, 0), 0) > 0)
        assert b"0" not in done
        await app.stop()

    async def test_with_our_hop_nothing_is_committed_past_a_run_in_flight(self, log: KafkaLog) -> None:
        begun = asyncio.Event()

        async def work(run: Run, ack: Ack) -> None:
            begun.set()
            await asyncio.get_running_loop().create_future()

        app = our_app(log, lambda stream: consume(stream, TOPIC, work, lambda error: None, CLOCK))
        await app.start()
        await asyncio.wait_for(begun.wait(), 60)
        await app.consumer.commit()
        assert log.committed(GROUP).get((TOPIC, 0), 0) == 0
        await app.stop()

    async def test_alone_one_slow_agent_stalls_all_others_of_its_app(self, log: KafkaLog) -> None:
        fast, begun = asyncio.Event(), asyncio.Event()

        async def slow(stream: Any) -> None:
            async for _ in stream:
                begun.set()
                await asyncio.get_running_loop().create_future()

        async def quick(stream: Any) -> None:
            async for _ in stream:
                fast.set()

        log.create_topic("quick")
        app = naive_app(log, slow)
        app.conf.stream_buffer_maxsize = 2
        app.agent(app.topic(log.prefix + "quick", key_serializer="raw", value_serializer="raw"))(quick)
        await app.start()
        await asyncio.wait_for(begun.wait(), 60)
        await asyncio.to_thread(log.append, [Record("quick", b"key", b"1")])
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(fast.wait(), 2.0)
        await app.stop()


async def test_a_judge_that_never_answers_does_not_stall_the_facts(tmp_path: Path) -> None:
    log, asked = SqliteLog(tmp_path / "log.db", CLOCK, partitions=1), asyncio.Event()

    async def ask(question: JudgeRequest) -> Judgement:
        asked.set()
        return await asyncio.get_running_loop().create_future()

    async with Worker(
        link_to(log, CLOCK), tmp_path / "facts", Edge(KEY), ask=ask, answered=[], router=None, clock=CLOCK
    ) as worker:
        await worker.questions.send([request(number) for number in range(12 * RUN)])
        await asyncio.wait_for(asked.wait(), 60)
        log.append([signed(turn(number)) for number in range(3)])
        await until(lambda: len(list(Facts(tmp_path / "facts").turns())) == 3)
