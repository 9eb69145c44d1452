"""One contestant's turn: it is asked in several ways, one after the other, while the CPU of its whole process tree is read."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from bench.peers.contestants import Running
from bench.peers.load import Counted, Plan
from bench.peers.processes import cpu_s, on_core, resident_mb

HERE = Path(__file__).resolve().parent
ROOM = 1.2
"""A rate is only tried on who answers so many times as many in a closed loop: behind a queue that grows nothing is measured."""
IDLE_S, SETTLE_S = 0.2, 10.0


@dataclass(frozen=True)
class Way:
    """How it is asked. `rate` None: as fast as it answers on so many connections."""

    name: str
    connections: int
    stream: bool = False
    rate: float | None = None


@dataclass(frozen=True)
class Asked:
    """What came of asking one contestant in one way. `cpu_s` None: it is no process (direct)."""

    counted: Counted
    cpu_s: float | None

    @property
    def cpu_ms(self) -> float:
        """CPU of one answer."""
        return math.nan if self.cpu_s is None else 1e3 * self.cpu_s / max(self.counted.answers, 1)

    @property
    def busy(self) -> float:
        """The share of the time in which it had a core."""
        return math.nan if self.cpu_s is None else self.cpu_s / self.counted.seconds

    @property
    def per_cpu_s(self) -> float:
        """Answers that one second of CPU is enough for."""
        return self.counted.answers / self.cpu_s if self.cpu_s else math.nan


@dataclass(frozen=True)
class Turn:
    """One contestant in one round, by the name of each way."""

    asked: dict[str, Asked]
    memory_mb: float

    def as_json(self) -> dict[str, object]:
        return {
            "memory_mb": self.memory_mb,
            **{name: {**asdict(one.counted), "cpu_s": one.cpu_s} for name, one in self.asked.items()},
        }


def ways(connections: Sequence[int], rate: float) -> list[Way]:
    """All ways: the first number of connections is the one that counts, the others show what changes with them."""
    first, *others = connections
    found = [Way("plain", first), Way("streams", first, stream=True), Way("rate", first, rate=rate)]
    return found + [Way(f"plain, {number} connections", number) for number in others]


class Upstream:
    """The server behind all of them, in a process of its own."""

    def __init__(self, core: int | None, words: int, chunks: int) -> None:
        command = [sys.executable, "-P", str(HERE / "upstream.py"), "--words", str(words), "--chunks", str(chunks)]
        with on_core(core):
            self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline())

    def served(self) -> int:
        """Chats that were answered until now."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/served", timeout=10) as answered:
            return int(sum(json.load(answered).values()))

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()


def take_turn(
    running: Running | None, upstream: Upstream, asked: Sequence[Way], seconds: float, core: int | None, seed: int
) -> Turn:
    """Ask one contestant (None: the upstream itself) in all ways. `core` is that of the load."""
    found: dict[str, Asked] = {}
    for way in asked:
        able = found["plain"].counted.per_second if "plain" in found else math.inf
        if way.rate is None or able > ROOM * way.rate:
            found[way.name] = ask(running, upstream, way, seconds, core, seed)
            settle(running)
    return Turn(found, resident_mb(running.process.pid) if running else math.nan)


def ask(running: Running | None, upstream: Upstream, way: Way, seconds: float, core: int | None, seed: int) -> Asked:
    """Run the load in a process of its own. Raises SystemExit where replies came that the upstream did not give."""
    port, headers = (running.port, running.headers) if running else (upstream.port, {})
    plan = Plan(
        port,
        seconds,
        way.connections,
        way.rate,
        way.stream,
        headers=headers,
        least=0 if way.rate else 3 * way.connections,
        seed=seed,
    )
    before = upstream.served()
    counted, spent = loaded(plan, core, lambda: cpu_s(running.process.pid) if running else None)
    if upstream.served() - before < counted.answers:
        raise SystemExit("there were more answers than the upstream gave: something remembers replies")
    return Asked(counted, spent)


def loaded(plan: Plan, core: int | None, cpu: Callable[[], float | None]) -> tuple[Counted, float | None]:
    """What the load counted, and how much `cpu` rose meanwhile."""
    with on_core(core):
        given = json.dumps(asdict(plan))
        process = subprocess.Popen(
            [sys.executable, "-P", str(HERE / "load.py"), given], stdout=subprocess.PIPE, text=True
        )
    assert process.stdout is not None
    try:
        process.stdout.readline()
        before = cpu()
        process.stdout.readline()
        after = cpu()
        counted = Counted(**json.loads(process.stdout.readline()))
    finally:
        process.kill()
        process.wait()
    return counted, None if before is None or after is None else after - before


def settle(running: Running | None) -> None:
    """Wait until it no longer works on what the load left behind."""
    until = time.monotonic() + SETTLE_S
    while running and time.monotonic() < until:
        before = cpu_s(running.process.pid)
        time.sleep(IDLE_S)
        if cpu_s(running.process.pid) - before < 0.3 * IDLE_S:
            return
