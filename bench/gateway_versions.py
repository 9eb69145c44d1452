"""What the gateway itself costs: CPU per chat turn and per line of /v1/events, beside another version's, in turns.

    python -P bench/gateway_versions.py [--against DIR] [--rounds 9] [--turns 150]

The real app, asked in its own process without a socket; an engine that says three words; the spool on disk, emptied into
nothing. A turn carries a history that was seen before, as chats do, and one message that was not. `--against`: a checkout of
another version, which the same file measures in a process of its own; both take turns, and so do two processes of this
version, whose ratio is the noise.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import inspect
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PLACES = {
    "gateway_app": ("deploy.gateway.app", "deploy.gateway"),
    "Spool": ("deploy.gateway.spool", "deploy.spool"),
    "read_events": ("deploy.gateway.events", "deploy.events_api"),
    "Caller": ("deploy.web.callers", "deploy.callers"),
    "LocalEngines": ("deploy.engine.adapters", "deploy.engines"),
    "open_control": ("deploy.control.store", "deploy.control"),
    "Edge": ("feedback.intake.edge", "feedback.edge"),
}
"""Where a name lies, in this version and in earlier ones."""

NOW_US = 1_790_000_000_000_000
SAID = "Hello, my order {} has not come yet: can you look where it is? I paid on 3 May, and was told that it takes a week. "
HEADERS = [(b"host", b"127.0.0.1"), (b"content-type", b"application/json")]


def found(name: str) -> Any:
    """What is called so in the version that is measured."""
    for place in PLACES[name]:
        try:
            return getattr(importlib.import_module(place), name)
        except (ModuleNotFoundError, AttributeError):
            continue
    raise SystemExit(f"{name} is in none of {', '.join(PLACES[name])}: add its place to bench/gateway_versions.py")


def made(name: str, *arguments: Any, **options: Any) -> Any:
    """Made with a clock, where this version asks for one."""
    make = found(name)
    asked = inspect.signature(make).parameters.get("clock")
    if asked is not None and asked.default is inspect.Parameter.empty:
        options["clock"] = importlib.import_module("feedback.clock").SystemClock()
    return make(*arguments, **options)


class Nowhere:
    """A log that takes everything."""

    async def send(self, records: Sequence[Any]) -> None:
        pass

    async def close(self) -> None:
        pass


def chat_body(number: int, length: int) -> bytes:
    """A chat of seven messages, the last of them new."""
    conversation = number % 50
    history = [
        {"role": ("user", "assistant")[place % 2], "content": SAID.format(f"{conversation}-{place}") * length}
        for place in range(6)
    ]
    asked = [*history, {"role": "user", "content": SAID.format(f"new-{number}") * length}]
    body = {"model": "trimtab", "messages": asked, "user": f"user-{conversation}", "metadata": {"app": "shop"}}
    return json.dumps(body).encode()


def event_lines(count: int) -> bytes:
    """A body of turns, and a thumb on every third."""
    lines: list[dict[str, Any]] = []
    for number in range(count):
        common = {"conversation_id": f"c-{number % 50}", "turn_id": f"t-{number}", "occurred_at": NOW_US / 1e6}
        if number % 3 == 2:
            said = {"event": "rating", "source": "user", "kind": "thumbs", "value": True}
        else:
            messages = [{"role": "user", "content": SAID.format(number % 50)}] * 3
            said = {"event": "turn", "messages": messages, "reply": SAID.format(number % 50), "policy": "app-1"}
        lines.append({"event_id": f"e-{number}", **common, **said})
    return b"\n".join(json.dumps(line).encode() for line in lines)


async def ask(app: Any, body: bytes) -> None:
    """One chat request, answered in full."""
    request = {
        "type": "http",
        "method": "POST",
        "path": "/v1/chat/completions",
        "query_string": b"",
        "headers": HEADERS,
        "client": ("127.0.0.1", 50_000),
    }
    given: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    given.put_nowait({"type": "http.request", "body": body, "more_body": False})
    statuses: list[int] = []

    async def send(message: dict[str, Any]) -> None:
        statuses.append(message.get("status", 0))

    await app(request, given.get, send)
    if statuses[0] != 200:
        raise SystemExit(f"a chat was answered with {statuses[0]}")


class Measured:
    """The gateway of the version whose packages are on the path."""

    def __init__(self, folder: Path) -> None:
        fakes = importlib.import_module("tests.fakes")
        settings = importlib.import_module("deploy.settings").Settings()
        control = found("open_control")(folder / "control.db")
        self.edge = found("Edge")(b"key")
        self.spool = made("Spool", folder / "spool.db", 1_000_000_000)
        engine = fakes.FakeEngine()
        self.engines = made("LocalEngines", lambda: fakes.BASE, folder, control, queue=64, make=lambda _: engine)
        self.app = made(
            "gateway_app", settings, control, self.edge, self.spool, self.engines, b"key", require_keys=False
        )
        self.caller = found("Caller")("acme", frozenset({"ingest"}))
        self.number = 0

    async def start(self) -> asyncio.Task[None]:
        """Ready to answer; the task empties the spool."""
        await self.engines.start()
        await importlib.import_module("tests.fakes").until(lambda: self.engines.ready() is None)
        return asyncio.create_task(self.spool.run(Nowhere))

    async def chats(self, turns: int, length: int) -> float:
        """CPU-seconds per turn."""
        bodies = [chat_body(number, length) for number in range(self.number, self.number + turns)]
        self.number += turns
        began = time.process_time()
        for body in bodies:
            await ask(self.app, body)
        return (time.process_time() - began) / turns

    async def events(self, turns: int) -> float:
        """CPU-seconds per line, of texts that were seen before."""
        raw, lines = event_lines(turns * 20), turns * 20
        began = time.process_time()
        account = await self._read(raw)
        took = time.process_time() - began
        if len(account.records) != lines:
            raise SystemExit(f"of {lines} lines {len(account.records)} were taken: {account.rejected[:1]}")
        return took / lines

    async def _read(self, raw: bytes) -> Any:
        try:
            redaction = importlib.import_module("deploy.gateway.redaction")
        except ModuleNotFoundError:  # an earlier version
            return found("read_events")(raw, self.caller, self.edge, NOW_US)
        fakes = importlib.import_module("tests.fakes")
        return await found("read_events")(raw, self.caller, redaction.Redaction(self.edge, fakes.CLOCK), fakes.CLOCK)


async def measure(folder: Path, turns: int) -> None:
    """In the child, until it is killed: answer each workload that is named on stdin with its cost."""
    measured = Measured(folder)
    sending = await measured.start()
    ways: dict[str, Callable[[], Awaitable[float]]] = {
        "chat": lambda: measured.chats(turns, 2),
        "long chat": lambda: measured.chats(turns // 5, 40),
        "events": lambda: measured.events(turns),
    }
    print("ready", flush=True)
    while not sending.done() and (asked := (await asyncio.to_thread(sys.stdin.readline)).strip()):
        print(json.dumps(await ways[asked]()), flush=True)


class Child:
    """A process that measures the version in `folder`."""

    def __init__(self, folder: Path, turns: int) -> None:
        self._state = tempfile.TemporaryDirectory()
        environment = {name: value for name, value in os.environ.items() if not name.startswith("TRIMTAB_")}
        command = [sys.executable, "-P", __file__, "--measure", self._state.name, "--turns", str(turns)]
        self._process = subprocess.Popen(
            command, cwd=folder, env=environment | {"PYTHONPATH": str(folder)}, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        if self._line() != "ready":
            raise SystemExit(
                f"{folder} can't be measured: this says why: cd {folder} && PYTHONPATH=. {' '.join(command)}"
            )

    def cost(self, workload: str) -> float:
        """CPU-seconds per turn or line."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{workload}\n")
        self._process.stdin.flush()
        return float(json.loads(self._line()))

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()
        self._state.cleanup()

    def _line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()


def ratio(rounds: list[dict[str, float]], one: str, other: str) -> str:
    """How many times dearer `one` is, with the lowest and highest of all rounds."""
    ratios = sorted(costs[one] / costs[other] for costs in rounds)
    return f"{statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--against", type=Path, help="a checkout of another version")
    arguments.add_argument("--rounds", type=int, default=9)
    arguments.add_argument("--turns", type=int, default=150)
    arguments.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    asked = arguments.parse_args()
    if asked.measure:
        asyncio.run(measure(asked.measure, asked.turns))
        return
    folders = {"this": ROOT, "again": ROOT} | ({"other": asked.against.resolve()} if asked.against else {})
    children = {name: Child(folder, asked.turns) for name, folder in folders.items()}
    print(f"{asked.rounds} rounds of {asked.turns} turns, CPU time; ratios as median (lowest to highest)")
    for workload in ("chat", "long chat", "events"):
        for child in children.values():
            child.cost(workload)  # warm up
        rounds = [{name: child.cost(workload) for name, child in children.items()} for _ in range(asked.rounds)]
        cost = statistics.median(costs["this"] for costs in rounds) * 1e6
        told = f"{workload:10} {cost:8.0f} µs   the same again {ratio(rounds, 'again', 'this')}"
        print(told + (f"   the other version {ratio(rounds, 'other', 'this')}" if asked.against else ""))
    for child in children.values():
        child.close()


if __name__ == "__main__":
    main()
