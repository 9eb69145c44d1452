"""kill -9 under load, again and again: is every turn whose answer came to its end in the log?"""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import msgspec

from bench.peers.contestants import OURS, Running, free_port
from bench.peers.load import Plan
from bench.peers.processes import on_core
from feedback.clock import SystemClock
from feedback.intake.edge import Record
from feedback.topics import EVENTS
from streams.sqlite.log import SqliteLog

LOAD = Path(__file__).with_name("load.py")
AT_ONCE = 10_000


@dataclass(frozen=True)
class Logged:
    """A turn as it lies in the log, or in the spool on its way there."""

    turn_id: str
    event_id: str
    outcome: str


@dataclass(frozen=True)
class Account:
    """What became of the turns that a client saw answered, and of those that it did not."""

    answered: int
    missing: list[str]
    """Answered, and not in the log at all, or only as a turn that was broken off."""
    twice: int
    """Records whose event id was there already: who reads the log takes the first."""
    aborted: int
    """Turns that were under way when the process died: logged as such."""

    def __str__(self) -> str:
        lost = f"{len(self.missing)} NOT: {', '.join(self.missing[:3])}" if self.missing else "none lost"
        return f"{self.answered:,} answered turns, all looked up in the log: {lost}; {self.twice} logged twice under one event id, {self.aborted} as broken off"


def account(answered: Iterable[str], logged: Iterable[Logged]) -> Account:
    """Hold the ids that clients were given against the log."""
    events, whole, broken = Counter[str](), set[str](), set[str]()
    for one in logged:
        events[one.event_id] += 1
        (whole if one.outcome == "ok" else broken).add(one.turn_id)
    seen = set(answered)
    return Account(len(seen), sorted(seen - whole), sum(events.values()) - len(events), len(broken - whole))


def kill_under_load(upstream: int, kills: int, on: tuple[int | None, int | None]) -> str:
    """Start ours, ask it plainly and in streams, kill it so many times, and account for all. Raises Absent.

    `on`: the core of ours, and that of the load.
    """
    with tempfile.TemporaryDirectory() as name:
        folder, port, chance = Path(name), free_port(), random.Random(0)
        start = OURS.start(port, upstream, folder)
        life, ids = Running(start, port, folder, on[0]), folder / "ids"
        ids.touch()
        life.wait_ready()
        loads = [_load(Plan(port, 1e6, 16, stream=stream, warm_s=0.0, ids=str(ids)), on[1]) for stream in (False, True)]
        try:
            for number in range(kills):
                if not _grows(ids, chance.uniform(0.2, 2.0)):
                    return f"after kill {number} nothing was answered any more"
                os.killpg(life.process.pid, signal.SIGKILL)
                life.process.wait()
                life = Running(start, port, folder, on[0])
            life.wait_ready()
        finally:
            for load in loads:
                load.kill()
                load.wait()
            life.close()
        return f"{kills} times kill -9: {account(ids.read_text().split(), logged(folder / 'state'))}"


def _load(plan: Plan, core: int | None) -> subprocess.Popen[bytes]:
    with on_core(core):
        return subprocess.Popen([sys.executable, "-P", str(LOAD), json.dumps(asdict(plan))], stdout=subprocess.DEVNULL)


def _grows(ids: Path, seconds: float, within_s: float = 60.0) -> bool:
    """Whether answers come (again), and then for so long."""
    size, until = ids.stat().st_size, time.monotonic() + within_s
    while ids.stat().st_size == size and time.monotonic() < until:
        time.sleep(0.05)
    time.sleep(seconds)
    return ids.stat().st_size > size


def logged(state: Path) -> Iterator[Logged]:
    """Every turn in the log and in the spool; what the spool still holds back is not one."""
    log = SqliteLog(state / "log.db", SystemClock(), read_only=True)
    for partition in range(log.topics().get(EVENTS[0], 0)):
        offset = 0
        while records := log.read(EVENTS[0], partition, offset, AT_ONCE):
            offset = records[-1].offset + 1
            yield from (_turn(record.value) for record in records)
    log.close()
    spool = sqlite3.connect(f"file:{state / 'spool.db'}?mode=ro", uri=True)
    decode = msgspec.msgpack.Decoder(Record).decode
    for (raw,) in spool.execute("SELECT record FROM records WHERE held IS NULL"):
        if (record := decode(raw)).topic == EVENTS[0]:
            yield _turn(record.value)
    spool.close()


def _turn(value: bytes) -> Logged:
    event = json.loads(value)
    return Logged(event["turn_id"], event["event_id"], event.get("outcome", "ok"))
