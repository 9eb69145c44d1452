"""Raw turns and ratings through the whole topology on a real Kafka, beside the same work done otherwise, in turns.

    python -P bench/streams.py [--events 20000] [--rounds 5] [--only NAME …]

Every contestant reads the same raw events and makes of each a redacted fact (by our rules), routes what nobody rated to
the judge's topic, and counts by policy:

    ours              the worker: facts in Delta tables with their offsets, in one transaction
    ours on SQLite    the same, on the embedded log
    two of ours       two workers that share the partitions
    faust             a straightforward Faust app: an agent per topic, JSON, facts to a topic, a table for the count
    faust, our parsing   the same with our checks, our memory of texts and our routing
    quix              Quix Streams with our checks, memory and routing: facts to a topic, state for the count
    bare              an aiokafka loop that forwards the bytes as they are: the ceiling

Each runs in a process of its own; figures are of that process, from its start to its last commit, without imports.
"""

from __future__ import annotations

import argparse
import asyncio
import hmac
import importlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from bench.raw_events import events  # noqa: E402
from feedback.clock import SystemClock  # noqa: E402
from feedback.intake.contract import Rejected  # noqa: E402
from feedback.intake.edge import Edge  # noqa: E402
from feedback.judge import routing  # noqa: E402
from feedback.privacy.personal_data import without_personal_data  # noqa: E402
from feedback.records import JudgeRequest, Rating, Turn  # noqa: E402
from feedback.topics import EVENTS, JUDGE_REQUESTS  # noqa: E402
from streams.log import Log  # noqa: E402

CLOCK = SystemClock()
QUIX = ROOT / ".make" / "quix"
"""Quix Streams and what it needs, older than what we need: only its own process sees it (`make bench` installs it)."""

PARTITIONS = 8
TOPICS = EVENTS
KEY = b"b" * 32
FACTS = "facts"
IMPORTED = (
    "aiokafka", "deltalake.writer", "faust.app.router", "faust.assignor.partition_assignor", "faust.fixups.django",
    "faust.tables.sets", "faust.topics", "faust.transport.drivers.aiokafka", "faust.worker", "kafka.admin", "pandas",
    "deploy.parts", "pyarrow.dataset", "streams.kafka.producer", "streams.kafka.transport", "streams.sqlite.transport", "streams.worker",
)  # fmt: skip
"""What the contestants import, some of it at their first record (pyarrow looks whether pandas is there)."""


class Work:
    """What the other contestants do with an event: ours do the same in their hops."""

    def __init__(self) -> None:
        self._edge, self.done = Edge(KEY), 0
        self._states: dict[int, routing.State] = {}

    def admit(self, value: bytes) -> Turn | Rating:
        event = self._edge.admit(value, (), time.time_ns() // 1000)
        assert not isinstance(event, Rejected)
        return event

    def route(self, partition: int, event: Turn | Rating) -> list[JudgeRequest]:
        now_us = time.time_ns() // 1000
        return routing.step(self._states.setdefault(partition, routing.State(0)), event, now_us, now_us)


# --- ours


def run_ours(servers: str, prefix: str, count: int, folder: Path) -> None:
    from streams.kafka.access import KafkaAccess
    from streams.kafka.log import KafkaLog

    asyncio.run(_worker(KafkaLog(KafkaAccess(servers), CLOCK, PARTITIONS, 1, prefix), folder))


def run_sqlite(servers: str, prefix: str, count: int, folder: Path) -> None:
    from streams.sqlite.log import SqliteLog

    asyncio.run(_worker(SqliteLog(folder / "log.db", CLOCK, PARTITIONS), folder))


async def _worker(log: Log, folder: Path) -> None:
    from deploy.parts import link_to
    from feedback.topics import TOPICS as ALL
    from streams.hops.waiting_turns import WaitingTurns
    from streams.worker import Worker, tune_interpreter

    tune_interpreter()
    tally = Counter[str]()

    class Tallying(WaitingTurns):
        def observe(self, partition: int, event: Turn | Rating, received_at_us: int) -> list[JudgeRequest]:
            if isinstance(event, Turn):
                tally[event.policy] += 1
            return super().observe(partition, event, received_at_us)

    for topic in ALL:
        log.create_topic(topic)
    async with Worker(
        link_to(log, CLOCK),
        folder / "facts",
        Edge(KEY),
        ask=None,
        answered=[],
        router=Tallying(0.0, CLOCK),
        clock=CLOCK,
    ) as worker:
        await worker.drained()


# --- the others


class Plainly(Work):
    """As one writes it first: JSON as dicts, each text redacted whenever it comes, no check of the rest."""

    def admit(self, value: bytes) -> Any:
        event = json.loads(value)
        for message in event.get("messages", []):
            message["content"] = without_personal_data(message["content"])
        if "reply" in event:
            event["reply"] = without_personal_data(event["reply"])
        event["user_id"] = hmac.digest(KEY, event["user_id"].encode(), "sha256").hex()
        return event

    def route(self, partition: int, event: Any) -> list[Any]:
        return [event] if event["event"] == "turn" else []


def run_faust(servers: str, prefix: str, count: int, folder: Path) -> None:
    _faust(
        Plainly(), lambda value: json.dumps(value).encode(), lambda e: e.get("policy"), servers, prefix, count, folder
    )


def run_faust_ours(servers: str, prefix: str, count: int, folder: Path) -> None:
    import msgspec

    _faust(Work(), msgspec.json.encode, lambda event: getattr(event, "policy", None), servers, prefix, count, folder)


def _faust(
    work: Work, encode: Callable[[Any], bytes], policy_of: Callable[[Any], str | None],
    servers: str, prefix: str, count: int, folder: Path,
) -> None:  # fmt: skip
    import faust

    app = faust.App(
        f"{prefix}naive", broker=f"kafka://{servers}", store="memory://", datadir=folder, web_enabled=False,
        topic_partitions=PARTITIONS, topic_disable_leader=True,
    )  # fmt: skip
    raw: dict[str, Any] = {"key_serializer": "raw", "value_serializer": "raw"}
    facts, requests = app.topic(prefix + FACTS, **raw), app.topic(prefix + JUDGE_REQUESTS, **raw)
    tally = app.Table("tally", default=int, partitions=PARTITIONS)
    done = asyncio.Event()

    async def handle(stream: Any) -> None:
        async for event in stream.events():
            admitted = work.admit(event.value)
            await facts.send(key=event.key, value=encode(admitted))
            for request in work.route(event.message.partition, admitted):
                await requests.send(key=event.key, value=encode(request))
            if (policy := policy_of(admitted)) is not None:
                tally[policy] += 1
            work.done += 1
            if work.done == count:
                done.set()

    async def main() -> None:
        for topic in TOPICS:
            app.agent(app.topic(prefix + topic, **raw), name=topic)(handle)
        await app.start()
        await done.wait()
        await app.producer.flush()
        await app.consumer.commit()
        await app.stop()

    asyncio.run(main())


def run_quix(servers: str, prefix: str, count: int, folder: Path) -> None:
    import msgspec
    from quixstreams import Application, State
    from quixstreams.context import message_context

    work = Work()
    app = Application(
        broker_address=servers, consumer_group=f"{prefix}quix", auto_offset_reset="earliest", state_dir=folder,
        loglevel="WARNING",
    )  # fmt: skip
    facts = app.topic(prefix + FACTS, value_serializer="bytes", key_serializer="bytes")
    requests = app.topic(prefix + JUDGE_REQUESTS, value_serializer="bytes", key_serializer="bytes")

    def tally(event: Turn | Rating, state: State) -> None:
        if isinstance(event, Turn):
            state.set(event.policy, state.get(event.policy, 0) + 1)

    for topic in TOPICS:
        frame = app.dataframe(app.topic(prefix + topic, value_deserializer="bytes", key_deserializer="bytes"))
        frame = frame.apply(work.admit).update(tally, stateful=True)
        frame.apply(msgspec.json.encode).to_topic(facts)
        frame.apply(lambda event: work.route(message_context().partition, event), expand=True).apply(
            msgspec.json.encode
        ).to_topic(requests)
    app.run(count=count)


def run_bare(servers: str, prefix: str, count: int, folder: Path) -> None:
    asyncio.run(_bare(servers, prefix, count))


async def _bare(servers: str, prefix: str, count: int) -> None:
    from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

    consumer = AIOKafkaConsumer(
        *(prefix + topic for topic in TOPICS),
        bootstrap_servers=servers, group_id=f"{prefix}bare", auto_offset_reset="earliest", enable_auto_commit=False,
    )  # fmt: skip
    producer = AIOKafkaProducer(bootstrap_servers=servers, enable_idempotence=True, linger_ms=5)
    await consumer.start()
    await producer.start()
    done = 0
    while done < count:
        sent: list[Awaitable[Any]] = []
        for place, fetched in (await consumer.getmany(timeout_ms=200, max_records=4_000)).items():
            batch = producer.create_batch()
            for record in fetched:
                if batch.append(key=record.key, value=record.value, timestamp=None) is None:
                    sent.append(await producer.send_batch(batch, prefix + FACTS, partition=place.partition))
                    batch = producer.create_batch()
                    batch.append(key=record.key, value=record.value, timestamp=None)
            sent.append(await producer.send_batch(batch, prefix + FACTS, partition=place.partition))
            done += len(fetched)
        await asyncio.gather(*sent)
        await consumer.commit()
    await consumer.stop()
    await producer.stop()


CONTESTANTS: dict[str, Callable[[str, str, int, Path], None]] = {
    "ours": run_ours,
    "ours on SQLite": run_sqlite,
    "two of ours": run_ours,
    "faust": run_faust,
    "faust, our parsing": run_faust_ours,
    "quix": run_quix,
    "bare": run_bare,
}


# --- measuring


def child(name: str, servers: str, prefix: str, count: int, folder: Path) -> None:
    """Run one contestant in this process and write what it took to `folder`/measured-PID."""
    for module in ("quixstreams",) if name == "quix" else IMPORTED:
        importlib.import_module(module)
    wall, cpu = time.perf_counter(), time.process_time()
    CONTESTANTS[name](servers, prefix, count, folder)
    took = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
    (folder / f"measured-{os.getpid()}").write_text(json.dumps(took))


def measure(
    name: str, servers: str, prefix: str, sent: list[tuple[str, bytes, bytes]], broker_pid: int
) -> dict[str, float]:
    """Seconds of one run on fresh topics that hold all events already: wall, CPU of the contestant, CPU of the broker."""
    from feedback.intake.edge import Record
    from streams.kafka.access import KafkaAccess
    from streams.kafka.log import KafkaLog
    from streams.sqlite.log import SqliteLog

    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        log: Log = (
            SqliteLog(folder / "log.db", CLOCK, PARTITIONS)
            if "SQLite" in name
            else KafkaLog(KafkaAccess(servers), CLOCK, PARTITIONS, 1, prefix)
        )
        for topic in (*TOPICS, FACTS, JUDGE_REQUESTS):
            log.create_topic(topic)
        log.append(Record(topic, key, value) for topic, key, value in sent)
        log.close()
        command = [sys.executable, "-P", __file__, "--child", name, servers, prefix, str(len(sent)), made]
        before, started = cpu_of(broker_pid), time.perf_counter()
        environment = {**os.environ, "PYTHONPATH": str(QUIX)} if name == "quix" else None
        processes = [
            subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.DEVNULL)
            for _ in range(2 if name.startswith("two") else 1)
        ]
        for process in processes:
            assert process.wait(600) == 0, f"{name} failed"
        took = [json.loads(path.read_text()) for path in folder.glob("measured-*")]
        wall = max(one["wall"] for one in took)
        return {
            "wall": wall,
            "cpu": sum(one["cpu"] for one in took),
            "broker": cpu_of(broker_pid) - before,
            "all": time.perf_counter() - started,
        }


def cpu_of(pid: int) -> float:
    """CPU seconds that a process has used so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", nargs="*", choices=list(CONTESTANTS), default=list(CONTESTANTS))
    parser.add_argument("--child", nargs=5, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        name, servers, prefix, count, folder = given.child
        child(name, servers, prefix, int(count), Path(folder))
        return
    from tests.kafka.broker import broker

    console, sent = Console(), events(given.events)
    results: dict[str, list[dict[str, float]]] = {name: [] for name in given.only}
    with tempfile.TemporaryDirectory() as folder, broker(Path(folder)) as running:
        assert running.process is not None
        for round_ in range(given.rounds + 1):  # the first one warms the broker up
            for number, name in enumerate(given.only):
                took = measure(name, running.servers, f"b{round_}-{number}.", sent, running.process.pid)
                if round_:
                    results[name].append(took)
                console.print(f"round {round_ or 'warm-up'}: {name} {took['wall']:.1f} s", style="dim")
    report(console, results, given.events, sum(len(value) for _, _, value in sent) // len(sent))


def report(console: Console, results: dict[str, list[dict[str, float]]], count: int, size: int) -> None:
    """Rates, and how many times more events per CPU-second the first one does than each other, round by round."""
    table = Table("", "events/s", "per CPU-second [spread]", "broker CPU s", "ours is … times [spread]", box=None)
    first = next(iter(results))
    for name, measured in results.items():
        per_cpu = sorted(count / one["cpu"] for one in measured)
        ratios = sorted(theirs["cpu"] / ours["cpu"] for ours, theirs in zip(results[first], measured, strict=True))
        table.add_row(
            name,
            f"{count / statistics.median(one['wall'] for one in measured):,.0f}",
            f"{statistics.median(per_cpu):,.0f} [{per_cpu[0]:,.0f} … {per_cpu[-1]:,.0f}]",
            f"{statistics.median(one['broker'] for one in measured):.1f}",
            f"{statistics.median(ratios):.2f} [{ratios[0]:.2f} … {ratios[-1]:.2f}]",
        )
    console.print(f"{count:,} events of {size} bytes, {PARTITIONS} partitions, {len(results[first])} rounds in turns")
    console.print(table)


if __name__ == "__main__":
    main()
