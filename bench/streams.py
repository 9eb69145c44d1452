"""Events through the whole topology on SQLite, next to a bare Faust agent on the same transport, measured alternately.

The topology does everything that it does live: verifies or redacts, validates, writes facts with their offsets, commits.
The bare agent reads the same records from the same kind of log and counts them: what is left is our own work.

    python -P bench/streams.py [EVENTS] [ROUNDS]
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import faust

from feedback.contract import Rejected
from feedback.edge import Edge, Record
from streams.app import INGEST_TOPICS
from streams.sqlite_log import SqliteLog
from streams.worker import Worker

PARTITIONS = 4
Measured = tuple[float, float]
"""Wall seconds and CPU seconds."""


def events(count: int) -> list[bytes]:
    """Turns of eight messages, about a kilobyte each, and a thumb on every fifth."""
    found = []
    for number in range(count):
        conversation = f"c{number // 4}"
        history = [
            {"role": "user" if place % 2 == 0 else "assistant", "content": f"message {place} of conversation {conversation}: where is my parcel 4711-{number % 97}, please?"}
            for place in range(7)
        ]  # fmt: skip
        common = {"conversation_id": conversation, "occurred_at": 1_767_268_800 + number, "user_id": f"u{number // 8}"}
        if number % 6 == 5:
            rating = {
                "event": "rating",
                "event_id": f"r{number}",
                "turn_id": f"t{number - 1}",
                "source": "user",
                "kind": "thumbs",
                "value": True,
            }
            found.append(json.dumps({**rating, **common}).encode())
        else:
            turn = {
                "event": "turn",
                "event_id": f"e{number}",
                "turn_id": f"t{number}",
                "messages": history,
                "reply": "It will be with you tomorrow.",
                "policy": "p",
            }
            found.append(json.dumps({**turn, **common}).encode())
    return found


def records(raw: list[bytes], edge: Edge) -> list[Record]:
    """The events as our edges put them on the log: redacted and signed."""
    now_us = time.time_ns() // 1000
    made = []
    for line in raw:
        record = edge.record(line, now_us)
        assert not isinstance(record, Rejected), record
        made.append(record)
    return made


async def topology(root: Path, log: SqliteLog, edge: Edge) -> None:
    """Everything that is on the log becomes facts."""
    worker = Worker(log, root / "facts", edge, ask=None, answered=[], router=None)
    async with worker:
        await worker.drained()


async def bare_agent(root: Path, log: SqliteLog, _: Edge) -> None:
    """A Faust app with an agent per topic that counts records and acknowledges."""
    app = faust.App(
        "bare",
        broker=f"sqlite://{root / 'log.db'}",
        store="memory://",
        datadir=root / "faust",
        web_enabled=False,
        topic_disable_leader=True,
        stream_buffer_maxsize=4,
        broker_commit_interval=0.5,
    )
    left = sum(log.ends().values())
    done = asyncio.Event()

    async def count(stream: Any) -> None:
        nonlocal left
        async for run in stream:
            left -= len(run)
            if not left:
                done.set()

    for topic in INGEST_TOPICS[:2]:
        app.agent(app.topic(topic, key_serializer="raw", value_serializer="raw"), name=topic)(count)
    await app.start()
    await done.wait()
    await app.stop()


def measure(
    work: Callable[[Path, SqliteLog, Edge], Coroutine[Any, Any, None]], sent: list[Record], key: bytes
) -> Measured:
    """One run on a fresh log that holds all records already."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        log = SqliteLog(root / "log.db", PARTITIONS)
        for topic in INGEST_TOPICS:
            log.create_topic(topic)
        for start in range(0, len(sent), 1_000):
            log.append(sent[start : start + 1_000])
        wall, cpu = time.perf_counter(), time.process_time()
        asyncio.run(work(root, log, Edge(key)))
        return time.perf_counter() - wall, time.process_time() - cpu


def main() -> None:
    """Print events per second and per CPU-second, and the ratios, with the spread over rounds."""
    count, rounds = (int(value) for value in [*sys.argv[1:], *("20000", "5")[len(sys.argv) - 1 :]])
    key = b"b" * 32
    raw = events(count)
    started = time.process_time()
    signed = records(raw, Edge(key))
    edge_s = time.process_time() - started
    foreign = [Record(record.topic, record.key, line) for record, line in zip(signed, raw, strict=True)]
    contestants: dict[str, tuple[Callable[[Path, SqliteLog, Edge], Coroutine[Any, Any, None]], list[Record]]] = {
        "topology, events signed by our edge": (topology, signed),
        "topology, foreign events (redacts)": (topology, foreign),
        "bare Faust agent": (bare_agent, signed),
    }
    results: dict[str, list[Measured]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, (work, sent) in contestants.items():
            results[name].append(measure(work, sent, key))
    say(
        f"{count:,} events of {sum(map(len, raw)) // count} bytes, {rounds} rounds; edge: {count / edge_s:,.0f} events per CPU-second"
    )
    for name, measured in results.items():
        rates = sorted(count / wall for wall, _ in measured)
        per_cpu = sorted(count / cpu for _, cpu in measured)
        say(
            f"{name:<37} {statistics.median(rates):>9,.0f}/s [{rates[0]:,.0f} … {rates[-1]:,.0f}]"
            f"   {statistics.median(per_cpu):>9,.0f} per CPU-second [{per_cpu[0]:,.0f} … {per_cpu[-1]:,.0f}]"
        )
    bare = results["bare Faust agent"]
    for name in list(contestants)[:2]:
        ratios = sorted(ours[1] / theirs[1] for ours, theirs in zip(results[name], bare, strict=True))
        say(f"CPU of {name} to bare agent: {statistics.median(ratios):.1f} [{ratios[0]:.1f} … {ratios[-1]:.1f}]")


def say(line: str) -> None:
    """Print past Faust, which takes `print` over."""
    os.write(1, f"{line}\n".encode())


if __name__ == "__main__":
    main()
