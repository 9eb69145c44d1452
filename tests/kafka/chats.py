"""A real `trimtab gateway` process and people who chat with it, for tests that kill things."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
from kafka import KafkaConsumer, TopicPartition

from deploy.gateway.chat import TURN_HEADER
from tests.deploy.commands import environment

READY_WITHIN_S = 120.0
ASK_S = 60.0
CONTEXT, LONG = 60_000, 50_000
"""Tokens: of the model's context, and of a reply that is under way for seconds however fast the machine is."""
QUESTION = {"model": "trimtab", "messages": [{"role": "user", "content": "Where is my order?"}], "stream": True}


class GatewayProcess:
    """One gateway on one state directory, with a model of random weights; killed and started again at will."""

    def __init__(self, folder: Path, **settings: str) -> None:
        import torch

        from tests.deploy.real_models import make_base

        torch.set_num_threads(1)
        base = folder / "model"
        if not base.exists():
            base = Path(make_base(base, CONTEXT, talkative=True).path)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port = int(probe.getsockname()[1])
        self._folder = folder
        self._arguments = ["--port", str(self._port), "--admin-port", "0", "--state", "state"]
        self._settings = {"TRIMTAB_BASE__NAME": str(base), "OMP_NUM_THREADS": "1", **settings}
        self._settings["TRIMTAB_GATEWAY__MAX_TOKENS"] = str(LONG)
        self.url = f"http://127.0.0.1:{self._port}"
        self.process = self.start()

    def start(self) -> subprocess.Popen[bytes]:
        """Start it; it is ready some seconds later."""
        with (self._folder / "gateway.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", "deploy.cli", "gateway", *self._arguments],
                cwd=self._folder,
                env=environment(**self._settings),
                stdout=log,
                stderr=log,
            )
        return self.process

    def wait_ready(self) -> None:
        """Until it answers a chat."""
        deadline = time.monotonic() + READY_WITHIN_S
        with httpx.Client(timeout=ASK_S) as client:
            while not self._answers(client):
                assert self.process.poll() is None, f"the gateway ended, see {self._folder / 'gateway.log'}"
                assert time.monotonic() < deadline, "the gateway does not answer"
                time.sleep(0.2)

    def _answers(self, client: httpx.Client) -> bool:
        try:
            return ask(client, self.url)[1]
        except httpx.HTTPError:
            return False

    def kill(self) -> None:
        """SIGKILL."""
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        """SIGTERM; its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)


class Chats:
    """People in threads, one question after another; they remember which turns began and which were told to the end."""

    def __init__(self, url: str, people: int = 2, pause_s: float = 0.0) -> None:
        self._url, self._pause_s = url, pause_s
        self._stop = threading.Event()
        self.begun, self.complete = set[str](), set[str]()
        self.failed = Counter[str]()
        self._threads = [threading.Thread(target=self._chat, daemon=True) for _ in range(people)]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Wait until everybody is done."""
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _chat(self) -> None:
        with httpx.Client(timeout=ASK_S) as client:
            while not self._stop.wait(self._pause_s):
                try:
                    turn_id, told = ask(client, self._url, self.begun.add)
                except httpx.HTTPError as error:
                    self.failed[type(error).__name__] += 1
                    self._stop.wait(0.1)
                    continue
                if told:
                    self.complete.add(turn_id)
                else:
                    self.failed["not told to the end"] += 1


@contextmanager
def reply_under_way(url: str) -> Iterator[str]:
    """A reply that has begun, and will not be over for long after the block; yields its turn's id."""
    with (
        httpx.Client(timeout=ASK_S) as client,
        client.stream("POST", f"{url}/v1/chat/completions", json={**QUESTION, "max_tokens": LONG}) as answer,
    ):
        next(answer.iter_lines())
        yield answer.headers[TURN_HEADER]


def ask(client: httpx.Client, url: str, begun: object = None) -> tuple[str, bool]:
    """Stream one reply: the turn's id, and whether its last chunk came."""
    with client.stream("POST", f"{url}/v1/chat/completions", json={**QUESTION, "max_tokens": 16}) as answer:
        turn_id = answer.headers.get(TURN_HEADER, "")
        if callable(begun) and turn_id:
            begun(turn_id)
        lines = [line for line in answer.iter_lines() if line]
    return turn_id, answer.status_code == 200 and lines[-1:] == ["data: [DONE]"]


def turns_on(servers: str, topic: str, partitions: int) -> dict[str, list[str]]:
    """The outcomes under which each turn stands on a topic."""
    consumer = KafkaConsumer(bootstrap_servers=servers, enable_auto_commit=False)
    places = [TopicPartition(topic, number) for number in range(partitions)]
    consumer.assign(places)
    consumer.seek_to_beginning(*places)
    left, found = sum(consumer.end_offsets(places).values()), dict[str, list[str]]()
    while left > 0:
        for records in consumer.poll(timeout_ms=500).values():
            left -= len(records)
            for record in records:
                event = json.loads(record.value)
                found.setdefault(event["turn_id"], []).append(event.get("outcome", "ok"))
    consumer.close()
    return found
