"""A gateway in bad company: how long a bystander waits for replies while a stranger does the worst, beside undisturbed.

    python -P bench/attack.py [--replies 30] [--only WORD]

A real gateway process (no keys, a base of random weights, everything on disk), a bystander who chats steadily, and one
attacker after another, who sends again as soon as answered. Both are measured in turns, undisturbed before each attack. Shown are
the median and the slowest reply, and the ratio of the slowest ones: the aim is at most 2. The worst texts are looked for first:
units that, repeated, take redaction the longest. The bystander's replies are short, as are the attacker's: what is measured is
not that two share an engine.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

READY_S, ASK_S = 180.0, 120.0
TEXT = 16_000
UNITS = (
    "030 1234567\xa0", "1", "1 ", "1   ", "+1 ", "+4930901820 ", "001 1 1 1 ", "12345678901 ", "4111 1111 1111 1112 ",
    "DE89 3704 0044 0532 0130 01 ", "123-45-6789 ", "bsn 111222333 ", "13800138000 ", "tel 1", "555-123-4567 ",
    "a@", "a@b.", "a@bb.cc ", "a." , "1.", "1.1.1.1 ", "1:", "a:", "2001:db8:0:1:2:3:4:5 ", "::1 ", ".", "1....", "1()",
    "13800138000-v \xa04111 1111 1111 1111bsn 030 1234567:DE89370400440532013000::0030 12345672001:db8::1+.a.4111 1111",
)  # fmt: skip
Attack = Callable[["Gateway", threading.Event], None]


class Gateway:
    """A gateway process in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        import torch

        from tests.deploy.real_models import make_base

        torch.set_num_threads(1)
        base = make_base(folder / "model", 512, talkative=True)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        settings = {"TRIMTAB_BASE__NAME": base.path, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-P", "-m", "deploy.cli", "gateway", "--port", str(self.port), "--admin-port", "0"]
        self._log = (folder / "gateway.log").open("wb")
        self.process = subprocess.Popen(
            [*command, "--state", "state"],
            cwd=folder, env={**os.environ, **settings}, stdout=self._log, stderr=self._log,
        )  # fmt: skip

    def post(self, path: str, body: bytes, within_s: float = ASK_S) -> tuple[int, bytes]:
        """Status and body of the answer; (0, b"") where the gateway closes the connection."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=within_s)
        try:
            connection.request("POST", path, body, {"content-type": "application/json"})
            answer = connection.getresponse()
            return answer.status, answer.read()
        except (OSError, http.client.HTTPException):
            return 0, b""
        finally:
            connection.close()

    def reply_s(self, number: int) -> float:
        """How long a bystander's chat takes."""
        began = time.perf_counter()
        status, said = self.post("/v1/chat/completions", chat(f"Where is my order, number {number}?", 24))
        if status != 200:
            raise SystemExit(f"a bystander was answered {status}: {said[:300]!r}")
        return time.perf_counter() - began

    def wait_ready(self) -> None:
        deadline = time.monotonic() + READY_S
        while self.post("/v1/chat/completions", chat("Hi", 1), 5)[0] != 200:
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"the gateway does not answer; its log is {self._log.name}")
            time.sleep(0.2)

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(30)
        self.process.kill()
        self._log.close()


def chat(text: str, tokens: int = 1) -> bytes:
    """A chat request."""
    message = {"role": "user", "content": text}
    return json.dumps({"model": "trimtab", "messages": [message], "max_tokens": tokens}).encode()


def posted(path: str, *bodies: bytes) -> Attack:
    """Send these again and again."""

    def attack(gateway: Gateway, stop: threading.Event) -> None:
        while not stop.is_set():
            for body in bodies:
                gateway.post(path, body)

    return attack


def trickled(head: bytes, drop: bytes, connections: int = 200) -> Attack:
    """Many connections on which next to nothing comes, now and then."""

    def attack(gateway: Gateway, stop: threading.Event) -> None:
        with contextlib.ExitStack() as stack:
            sockets = [
                stack.enter_context(socket.create_connection(("127.0.0.1", gateway.port))) for _ in range(connections)
            ]
            for each in sockets:
                each.sendall(head)
            while not stop.wait(0.05):
                for each in sockets:
                    with contextlib.suppress(OSError):
                        each.sendall(drop)

    return attack


def worst_units(count: int) -> list[str]:
    """The units of which a text takes redaction the longest."""
    from feedback.privacy.personal_data import without_personal_data

    def took_s(unit: str) -> float:
        text, best = repeated(unit, 1_000), float("inf")
        for _ in range(2):
            began = time.process_time()
            without_personal_data(text)
            best = min(best, time.process_time() - began)
        return best

    return sorted(UNITS, key=took_s, reverse=True)[:count]


def repeated(unit: str, length: int) -> str:
    return (unit * (length // len(unit) + 1))[:length]


def attacks() -> Iterator[tuple[str, Attack]]:
    """What a stranger may try, by name."""
    chats = "/v1/chat/completions"
    yield "9 MB chat", posted(chats, chat("Where is my order? I paid. " * 330_000))
    yield "9 MB chat of digits", posted(chats, chat("4111 1111 1111 1112 " * 450_000))
    for unit in worst_units(6):
        yield f"16 kB chat of {unit[:24]!r}", posted(chats, chat(repeated(unit, TEXT)))
    yield "10 MB of brackets", posted(chats, b"[" * 9_900_000)
    yield "9 MB of tiny objects", posted(chats, b'{"messages":[' + b"{}," * 3_000_000 + b"1]}")
    keys = b",".join(b'"%d":1' % number for number in range(700_000))
    yield "feedback: a million keys", posted("/v1/feedback", b"{" + keys + b"}")
    yield "feedback: a huge comment", posted("/v1/feedback", feedback("x" * 9_000_000))
    yield "feedback: the worst comment", posted("/v1/feedback", feedback(repeated(worst_units(1)[0], TEXT)))
    yield "events: a million lines", posted("/v1/events", b"\n" * 1_000_000)
    yield "events: 30,000 ratings", posted("/v1/events", ratings(30_000))
    head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\n"
    yield "200 slow headers", trickled(head, b"x")
    yield "200 slow bodies", trickled(head + b"content-length: 1000000\r\n\r\n", b" ")


def feedback(comment: str) -> bytes:
    rating = {"turn_id": "mine", "conversation_id": "c", "kind": "thumbs", "value": False, "comment": comment}
    return json.dumps(rating).encode()


def ratings(count: int) -> bytes:
    rating = {"event": "rating", "conversation_id": "c", "turn_id": "t", "source": "user", "kind": "comment"}
    rating |= {"occurred_at": "2026-01-01T00:00:00Z"}
    lines = (json.dumps(rating | {"event_id": f"e{number}", "value": f"call me: {number}"}) for number in range(count))
    return "\n".join(lines).encode()


def replies(gateway: Gateway, count: int) -> list[float]:
    """Seconds of each reply, one after the other."""
    return [gateway.reply_s(number) for number in range(count)]


def attacked(gateway: Gateway, attack: Attack, count: int) -> list[float]:
    """The same while the attack is under way."""
    stop = threading.Event()
    attacker = threading.Thread(target=attack, args=(gateway, stop), daemon=True)
    attacker.start()
    time.sleep(0.3)
    try:
        return replies(gateway, count)
    finally:
        stop.set()
        attacker.join(ASK_S)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--replies", type=int, default=30, help="of the bystander, undisturbed and under each attack")
    parser.add_argument("--only", default="", help="attacks whose name holds this")
    asked = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        gateway = Gateway(Path(folder))
        try:
            gateway.wait_ready()
            replies(gateway, 5)
            show(gateway, asked.replies, asked.only)
        finally:
            gateway.stop()


def show(gateway: Gateway, count: int, only: str) -> None:
    print(f"{'a bystander waits, in ms':<52} {'undisturbed':>16} {'under attack':>16}   ratio")
    print(f"{'':<52} {'median':>8}{'slowest':>8} {'median':>8}{'slowest':>8}   of slowest")
    for name, attack in attacks():
        if only in name:
            calm, busy = replies(gateway, count), attacked(gateway, attack, count)
            figures = [1e3 * f(of) for of in (calm, busy) for f in (statistics.median, max)]
            print(
                f"{name:<52} {figures[0]:8.0f}{figures[1]:8.0f} {figures[2]:8.0f}{figures[3]:8.0f}   {max(busy) / max(calm):.1f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
