"""The service that is fuzzed: a gateway, a worker and a controller as processes of their own, an engine and a judge here."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import httpx

from deploy.parts import connect_log, read_log
from deploy.settings import Settings
from feedback.facts.reader import Facts
from feedback.intake.edge import Record
from streams.care.audit import Finding, audit
from tests.fakes import CLOCK, DEADLINE_S
from tests.judge_server import Answer, JudgeServer, judge_server
from tests.own_engine import MODEL, OwnEngine
from tests.test_two_gateways import Service, service

JUDGED = {"GRACE_S": "0.2", "MODEL": "judge"}
EVENT_TOPICS = ("turns.served", "ratings.given")
QUIET_S = 120.0
"""How long the worker may take for what it was sent last."""
GIVEN_UP = {"Traceback", "unhandled", "Segmentation fault"}


class Engine(OwnEngine):
    """As an engine should: what it does not understand it refuses."""

    def answer(self, path: str, authorization: str | None, body: dict[str, Any]) -> tuple[int, Any]:
        try:
            return super().answer(path, authorization, body)
        except Exception:  # parameters that it can't read
            return 400, {"error": {"message": "no", "type": "invalid_request_error", "param": None, "code": None}}
        finally:
            self.asked.clear()


@dataclass
class Fuzzed:
    """`post` to it; `quiet` says whether all of it is well."""

    made: Service
    judge: JudgeServer
    client: httpx.Client
    answers: list[Answer] = field(default_factory=list)
    """What the judge says next; then a number of stars."""
    answered: Counter[tuple[str, int]] = field(default_factory=Counter)
    least: int = 0
    most: int = 0
    """Of events, that were taken so far."""

    lock: threading.Lock = field(default_factory=threading.Lock)

    def took(self, least: int, most: int | None = None) -> None:
        """So many events of one body."""
        with self.lock:
            self.least, self.most = self.least + least, self.most + (least if most is None else most)

    @cached_property
    def turn_id(self) -> str:
        """Of a reply that this service gave: it needs no conversation, and may be rated by its choices."""
        asked = {"model": "trimtab", "messages": [{"role": "user", "content": "Hello?"}]}
        self.took(1)
        return str(self.post("/v1/chat/completions", json.dumps(asked).encode()).json()["id"])

    def post(self, path: str, content: bytes, **headers: str) -> httpx.Response:
        """Raises AssertionError where it breaks instead of saying no."""
        answer = self.client.post(path, content=content, headers={"content-type": "application/json", **headers})
        with self.lock:
            self.answered[path, answer.status_code] += 1
        assert answer.status_code < 500, f"{answer.status_code} {answer.text[:500]}"
        if answer.status_code >= 400:
            error = answer.json()["error"]
            assert error["message"], answer.text
            assert {"type", "code", "param"} <= error.keys(), answer.text
        return answer

    def put(self, topic: str, value: bytes, headers: tuple[tuple[str, bytes], ...] = ()) -> None:
        """Straight on the log, as other programs may."""
        log = connect_log(self.made.state, Settings(), CLOCK)
        try:
            log.append([Record(topic, b"key", value, headers)])
        finally:
            log.close()

    def findings(self) -> list[Finding]:
        """What the auditor says of the topics of events."""
        state = self.made.state
        log = read_log(state, Settings(), CLOCK)
        try:
            return [one for one in audit(log, Facts(state.facts)) if one.topic in EVENT_TOPICS]
        finally:
            log.close()

    def quiet(self) -> None:
        """Once all that was sent is a fact or a dead letter. Fails where it is not, a role is gone, or a log tells of a crash."""
        until = time.monotonic() + QUIET_S
        while True:
            self.well()
            findings = self.findings()
            if not any(one.waiting for one in findings):
                break
            assert time.monotonic() < until, f"the worker is stuck: {findings}"
            time.sleep(0.1)
        assert all(one.good for one in findings), findings
        assert self.least <= sum(one.records for one in findings) <= self.most, (self.least, self.most, findings)

    def well(self) -> None:
        """Every role runs, and none has told of a crash."""
        for name, process in self.made.processes.items():
            log = self.made.log(name)
            assert process.poll() is None, f"{name} has ended: {log[-3000:]}"
            for word in GIVEN_UP:
                at = log.find(word)
                assert at < 0, f"{name}: {log[max(0, at - 500) : at + 3000]}"


@contextmanager
def fuzzed(root: Path) -> Iterator[Fuzzed]:
    """A service that is ready."""
    engine = Engine()
    thread = threading.Thread(target=engine.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    answers: list[Answer] = []

    def brain(_: dict[str, Any]) -> Answer:
        return answers.pop() if answers else "none of it"

    with judge_server(brain) as judge:
        settings = {f"TRIMTAB_JUDGE__{name}": value for name, value in JUDGED.items()}
        settings["TRIMTAB_JUDGE__BASE_URL"] = judge.url
        with (
            service(root, "--engine", engine.url, "--model", MODEL, **settings) as made,
            httpx.Client(base_url=made.url(1), timeout=DEADLINE_S) as client,
        ):
            made.others()
            made.gateway(1)
            made.ready(1)
            yield Fuzzed(made, judge, client, answers)
    engine.shutdown()
    thread.join()
    engine.server_close()
