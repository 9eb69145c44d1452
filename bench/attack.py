"""A gateway in bad company: how long a bystander waits for replies while a stranger does the worst, beside undisturbed.

    python -P bench/attack.py [--replies 30] [--rounds 3] [--only WORD]

A real gateway process (no keys, a base of random weights, everything on disk), a bystander who chats steadily, and one
attacker after another, who sends again as soon as answered. The attacker is a process that gives way to all others: he has a machine
of his own, and what his client needs is not the gateway's fault. In each round the bystander is measured before, during and after an
attack. Shown are medians over the rounds: of the slowest of his replies, of their ratio to those before (the aim is at most 2), and
of that of those after to those before, which is noise. `stretch` is the longest time that the gateway's loop was busy with
one thing, in CPU time: unlike the others, it does not depend on who else uses the machine.

The worst texts are looked for first: units that, repeated, take redaction the longest. The bystander's replies are short, as
are the attacker's: what is measured is not that two share an engine.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import multiprocessing
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

READY_S, ASK_S = 180.0, 120.0
UNDER_WAY_S = 0.5
"""So long an attack has to get going."""
TEXT = 16_000
UNITS = (
    "030 1234567\xa0", "1", "1 ", "1   ", "+1 ", "+4930901820 ", "001 1 1 1 ", "12345678901 ", "4111 1111 1111 1112 ",
    "DE89 3704 0044 0532 0130 01 ", "123-45-6789 ", "bsn 111222333 ", "13800138000 ", "tel 1", "555-123-4567 ",
    "a@", "a@b.", "a@bb.cc ", "a." , "1.", "1.1.1.1 ", "1:", "a:", "2001:db8:0:1:2:3:4:5 ", "::1 ", ".", "1....", "1()",
    "13800138000-v \xa04111 1111 1111 1111bsn 030 1234567:DE89370400440532013000::0030 12345672001:db8::1+.a.4111 1111",
)  # fmt: skip
Attack = Callable[["Gateway", Event], None]


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
        self._figures = folder / "figures.json"
        command = [sys.executable, "-P", "-m", "bench.watched", str(self._figures)]
        command += ["gateway", "--port", str(self.port), "--admin-port", "0"]
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

    def figures(self) -> dict[str, float]:
        """What the gateway's process says of itself since it was last asked: see bench.watched."""
        self._figures.unlink(missing_ok=True)
        self.process.send_signal(signal.SIGUSR1)
        deadline = time.monotonic() + ASK_S
        while not self._figures.exists():
            if time.monotonic() > deadline:
                raise SystemExit(f"the gateway tells no figures; its log is {self._log.name}")
            time.sleep(0.01)
        told: dict[str, float] = json.loads(self._figures.read_bytes())
        return told

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

    def attack(gateway: Gateway, stop: Event) -> None:
        while not stop.is_set():
            for body in bodies:
                gateway.post(path, body)

    return attack


def flooded(head: bytes, piece: bytes) -> Attack:
    """A quarter of a megabyte of small things on a connection, and again on the next."""
    flood = head + piece * (250_000 // len(piece))

    def attack(gateway: Gateway, stop: Event) -> None:
        while not stop.is_set():
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", gateway.port)) as one:
                one.settimeout(ASK_S)
                one.sendall(flood)
                while one.recv(65_536):
                    pass

    return attack


def trickled(head: bytes, drop: bytes, connections: int = 200) -> Attack:
    """Many connections on which next to nothing comes, now and then."""

    def attack(gateway: Gateway, stop: Event) -> None:
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
    yield "9 MB picture", posted(chats, parts(image("data:image/png;base64," + "QUJD" * 2_250_000)))
    yield "9 MB of data in percents", posted(chats, parts(image("data:text/plain," + "%20" * 3_000_000)))
    yield "9 MB of escapes", posted(chats, chat("\n" * 4_500_000))
    yield "as many values as are taken", posted(chats, parts({"type": "text", "text": "Hi", "all": [{}] * 24_000}))
    yield "10 MB of brackets", posted(chats, b"[" * 9_900_000)
    yield "9 MB of tiny objects", posted(chats, b'{"messages":[' + b"{}," * 3_000_000 + b"1]}")
    keys = b",".join(b'"%d":1' % number for number in range(700_000))
    yield "feedback: a million keys", posted("/v1/feedback", b"{" + keys + b"}")
    yield "feedback: a huge comment", posted("/v1/feedback", feedback("x" * 9_000_000))
    yield "feedback: the worst comment", posted("/v1/feedback", feedback(repeated(worst_units(1)[0], TEXT)))
    yield "events: a million lines", posted("/v1/events", b"\n" * 1_000_000)
    yield "events: 30,000 ratings", posted("/v1/events", ratings(30_000))
    head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\n"
    yield "packets full of requests", flooded(b"", b"GET / HTTP/1.1\r\n\r\n")
    yield "packets full of headers", flooded(head, b"a:\r\n")
    yield "packets full of tiny chunks", flooded(head + b"transfer-encoding: chunked\r\n\r\n", b"1\r\nx\r\n")
    yield "200 slow headers", trickled(head, b"x")
    yield "200 slow bodies", trickled(head + b"content-length: 1000000\r\n\r\n", b" ")


def parts(*of: dict[str, Any]) -> bytes:
    """A chat request whose message has parts."""
    message = {"role": "user", "content": [*of, {"type": "text", "text": "What is it?"}]}
    return json.dumps({"model": "trimtab", "messages": [message], "max_tokens": 1}).encode()


def image(url: str) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": url}}


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


@dataclass(frozen=True)
class Seen:
    """What a bystander saw in one go, and what the gateway says of that time; milliseconds."""

    slowest: float
    median: float
    stretch: float


def seen(gateway: Gateway, count: int) -> Seen:
    gateway.figures()
    times = [1e3 * second for second in replies(gateway, count)]
    return Seen(max(times), statistics.median(times), gateway.figures()["stretch_ms"])


@contextlib.contextmanager
def under(attack: Attack, gateway: Gateway) -> Iterator[None]:
    """The attack is under way, by a process that gives way to all others."""
    processes = multiprocessing.get_context("fork")
    stop = processes.Event()

    def work() -> None:
        os.nice(19)
        attack(gateway, stop)

    attacker = processes.Process(target=work, daemon=True)
    attacker.start()
    time.sleep(UNDER_WAY_S)
    try:
        yield
    finally:
        stop.set()
        attacker.join(ASK_S)
        attacker.kill()


Round = tuple[Seen, Seen, Seen]
"""Before, during and after."""


def measured(gateway: Gateway, attack: Attack, count: int) -> Round:
    before = seen(gateway, count)
    with under(attack, gateway):
        during = seen(gateway, count)
    return before, during, seen(gateway, count)


def row(rounds: Sequence[Round]) -> list[float]:
    """Medians over the rounds: of the slowest before and during, the ratio, the noise, and the stretches before and during."""
    figures = (
        (
            before.slowest,
            during.slowest,
            during.slowest / before.slowest,
            after.slowest / before.slowest,
            during.median / before.median,
            before.stretch,
            during.stretch,
        )
        for before, during, after in rounds
    )
    return [statistics.median(column) for column in zip(*figures, strict=True)]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--replies", type=int, default=30, help="of the bystander, undisturbed and under each attack")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="", help="attacks whose name holds this")
    asked = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        gateway = Gateway(Path(folder))
        try:
            gateway.wait_ready()
            replies(gateway, 5)
            show(gateway, asked.replies, asked.rounds, asked.only)
        finally:
            gateway.stop()


def show(gateway: Gateway, count: int, rounds: int, only: str) -> None:
    print(
        f"{'a bystander waits, in ms':<45} {'slowest reply':>17} {'ratio of':>9} {'the same':>9} {'ratio of':>9} {'stretch':>15}"
    )
    print(f"{'':<45} {'calm':>8} {'attack':>8} {'slowest':>9} {'calm':>9} {'medians':>9} {'calm':>7} {'attack':>7}")
    for name, attack in attacks():
        if only in name:
            one = row([measured(gateway, attack, count) for _ in range(rounds)])
            calm, attacked, ratio, noise, medians, *stretch = one
            print(
                f"{name:<45} {calm:8.0f} {attacked:8.0f} {ratio:9.1f} {noise:9.1f} {medians:9.1f} {stretch[0]:7.1f} {stretch[1]:7.1f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
