"""Asks a chat endpoint for replies, from one thread and one epoll loop: as many as it can answer, or so many a second.

    python -P bench/peers/load.py '{"port": 8400, "connections": 32, "seconds": 3}'

In a process of its own. Not wrk: that knows no rate (a closed loop asks less often where answers are slow, and hides what a
user would have waited), and its requests would all be alike. Closed: each connection asks again when it was answered. With
`rate`: requests begin when a Poisson process of that rate says so, whatever is answered, and a wait counts from then.
Prints a line when it begins to count, one when it ends, and what was counted.
"""

from __future__ import annotations

import json
import math
import os
import random
import re
import select
import socket
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from bench.peers.upstream import MARK, MODEL, in_letters

SAID = "Hello, my order {} has not come yet: can you look where it is? I paid on 3 May, and was told that it takes a week. "
CONVERSATIONS = 50
MOST_OPEN = 512
"""Connections at a rate; who has to wait for one waits on the clock."""
AGAIN_S, SHORT_S = 0.02, 0.01
PATIENCE_S = 10.0

_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d+)")
_ID = re.compile(rb'"id"\s*:\s*"([^"]+)"')


@dataclass(frozen=True)
class Plan:
    """What is asked of whom. `warm_s` come before what is counted."""

    port: int
    seconds: float
    connections: int = 32
    rate: float | None = None
    stream: bool = False
    warm_s: float = 0.5
    path: str = "/v1/chat/completions"
    model: str = MODEL
    headers: dict[str, str] = field(default_factory=dict)
    ids: str | None = None
    """Names of all replies that came to their end are appended to this file; lost connections are then no error."""
    least: int = 0
    """It goes on until it counted so many answers, for PATIENCE_S more at most; and warms up until there were a third as many."""
    seed: int = 0


@dataclass(frozen=True)
class Counted:
    """What was answered while it counted. Latencies in ms."""

    answers: int
    errors: int
    seconds: float
    p50_ms: float
    p99_ms: float
    most_ms: float
    first_error: str = ""

    @property
    def per_second(self) -> float:
        return self.answers / self.seconds


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least this share of all values does not exceed; of none, NaN."""
    if not values:
        return math.nan
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


def request_of(plan: Plan) -> Callable[[int], bytes]:
    """A request by its number: a history that was seen before, as chats have, and one message that was not."""
    ready: list[bytes] = []
    for conversation in range(CONVERSATIONS):
        history: list[dict[str, str]] = [
            {
                "role": ("user", "assistant")[place % 2],
                "content": SAID.format(f"{in_letters(conversation * 6 + place).decode()}"),
            }
            for place in range(6)
        ]
        asked = [*history, {"role": "user", "content": SAID.format(MARK.decode())}]
        body = {"model": plan.model, "messages": asked, "user": f"user-{conversation}"} | (
            {"stream": True, "stream_options": {"include_usage": True}} if plan.stream else {}
        )
        raw = json.dumps(body).encode()
        own = "".join(f"{name}: {value}\r\n" for name, value in plan.headers.items())
        head = f"POST {plan.path} HTTP/1.1\r\nhost: 127.0.0.1:{plan.port}\r\ncontent-type: application/json\r\n"
        ready.append(f"{head}{own}content-length: {len(raw)}\r\n\r\n".encode() + raw)
    return lambda number: ready[number % CONVERSATIONS].replace(MARK, in_letters(number))


@dataclass
class Answer:
    """One answer as it comes in."""

    raw: bytes = b""
    end: int | None = None
    """How long it will be; -1: until its last chunk; None: not known yet."""

    def add(self, data: bytes) -> bool:
        """Whether it is complete."""
        self.raw += data
        if self.end is None:
            start = self.raw.find(b"\r\n\r\n")
            if start < 0:
                return False
            found = _LENGTH.search(self.raw[:start].lower())
            self.end = start + 4 + int(found[1]) if found else -1
        return self.raw.endswith(b"\r\n0\r\n\r\n") if self.end < 0 else len(self.raw) >= self.end

    def fault(self, stream: bool) -> str:
        """Why it is no answer, empty when it is one."""
        whole = b"[DONE]" if stream else b'"chat.completion"'
        return "" if self.raw[9:12] == b"200" and whole in self.raw else self.raw[:300].decode(errors="replace")


@dataclass
class _Line:
    """A connection, and what is asked on it."""

    socket: socket.socket
    asked_s: float = 0.0
    answer: Answer = field(default_factory=Answer)


class Load:
    """The loop. `run` returns what was counted."""

    def __init__(self, plan: Plan, say: Callable[[str], None] = lambda _: None) -> None:
        self._plan, self._say, self._request = plan, say, request_of(plan)
        self._poll, self._lines, self._idle = select.epoll(), dict[int, _Line](), list[_Line]()
        self._number = random.Random(f"{plan.port} {plan.seed} {time.time_ns()}").randrange(50_000_000)
        self._ids = os.open(plan.ids, os.O_WRONLY | os.O_APPEND | os.O_CREAT) if plan.ids else None
        self._answers, self._waits, self._errors, self._first_error = 0, list[float](), 0, ""

    def run(self) -> Counted:
        began, plan = time.perf_counter(), self._plan
        turn = self._closed if plan.rate is None else self._at_rate(plan.rate)
        if plan.rate is None:
            for _ in range(plan.connections):
                self._ask(time.perf_counter())
        self._until(turn, began + plan.warm_s, plan.least // 3)
        self._answers, self._waits, self._errors = 0, [], 0
        start = time.perf_counter()
        self._say("begin")
        self._until(turn, start + plan.seconds, plan.least)
        self._say("end")
        took, waits = time.perf_counter() - start, self._waits
        return Counted(
            len(waits), self._errors, took, percentile(waits, 0.5), percentile(waits, 0.99), max(waits, default=math.nan),
            self._first_error,
        )  # fmt: skip

    def _until(self, turn: Callable[[float, float], None], until: float, least: int) -> None:
        while (now := time.perf_counter()) < until or (self._answers < least and now < until + PATIENCE_S):
            turn(now, max(until, now + SHORT_S))

    def _closed(self, now: float, until: float) -> None:
        for line in self._answered(self._poll.poll(max(0.001, until - now))):
            self._idle.append(line)
            self._ask(time.perf_counter())

    def _at_rate(self, rate: float) -> Callable[[float, float], None]:
        chance, due = random.Random(self._plan.seed), time.perf_counter()

        def turn(now: float, until: float) -> None:
            nonlocal due
            while due <= now and (self._idle or len(self._lines) < MOST_OPEN):
                self._ask(due)
                due += chance.expovariate(rate)
            # epoll waits for whole milliseconds, select for microseconds
            ready, _, _ = select.select(
                [self._poll.fileno()], [], [], max(0.0, (until if due <= now else min(due, until)) - now)
            )
            if ready:
                self._idle += self._answered(self._poll.poll(0))

        return turn

    def _ask(self, asked_s: float) -> None:
        line = self._idle.pop() if self._idle else self._connect()
        line.asked_s, line.answer = asked_s, Answer()
        self._number += 1
        try:
            line.socket.sendall(self._request(self._number))
        except OSError as error:
            self._lost(line, f"{type(error).__name__} while asking")
            self._ask(asked_s)

    def _connect(self) -> _Line:
        while True:
            try:
                connection = socket.create_connection(("127.0.0.1", self._plan.port), timeout=5)
                break
            except OSError as error:
                self._failed(f"{type(error).__name__}: no connection")
                time.sleep(AGAIN_S)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        line = self._lines[connection.fileno()] = _Line(connection)
        self._poll.register(connection.fileno(), select.EPOLLIN)
        return line

    def _answered(self, events: Sequence[tuple[int, int]]) -> list[_Line]:
        """The connections that are free again."""
        free = []
        for number, _ in events:
            line, data = self._lines[number], b""
            with suppress(OSError):
                data = line.socket.recv(1_048_576)
            if data and not line.answer.add(data):
                continue
            if data:
                self._count(line)
            if not data or b"connection: close" in line.answer.raw[:1_000].lower():
                self._lost(line, "" if data else "the connection was lost")
                line = self._connect()
            free.append(line)
        return free

    def _count(self, line: _Line) -> None:
        if fault := line.answer.fault(self._plan.stream):
            self._failed(fault)
            return
        self._answers += 1
        self._waits.append(1e3 * (time.perf_counter() - line.asked_s))
        if self._ids is not None and (found := _ID.search(line.answer.raw)):
            os.write(self._ids, found[1] + b"\n")

    def _lost(self, line: _Line, fault: str) -> None:
        self._poll.unregister(line.socket.fileno())
        del self._lines[line.socket.fileno()]
        line.socket.close()
        if fault:
            self._failed(fault)

    def _failed(self, fault: str) -> None:
        self._errors += 1
        self._first_error = self._first_error or fault


def main() -> None:
    given: dict[str, Any] = json.loads(sys.argv[1])
    counted = Load(Plan(**given), lambda said: print(said, flush=True)).run()
    print(json.dumps(asdict(counted)), flush=True)


if __name__ == "__main__":
    main()
