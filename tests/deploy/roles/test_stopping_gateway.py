"""A gateway process that is asked to stop while it replies to more people than it can at once."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import httpx
import pytest

from deploy.engine.thread import PARALLEL
from streams.sqlite.log import SqliteLog
from tests.fakes import CLOCK, until
from tests.kafka.chats import LONG, QUESTION, GatewayProcess

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("whole loop")]

STOP_WITHIN_S = 12
KEPT = 5_000
"""Bytes of an answer's end."""


class Person(threading.Thread):
    """Asks for a long reply and reads it to its end."""

    def __init__(self, url: str) -> None:
        super().__init__(daemon=True)
        self._url = url
        self.answer: httpx.Response | None = None
        self.begun = threading.Event()
        self._end = b""
        self.start()

    def run(self) -> None:
        with (
            httpx.Client(timeout=120) as client,
            client.stream("POST", f"{self._url}/v1/chat/completions", json={**QUESTION, "max_tokens": LONG}) as answer,
        ):
            self.answer = answer
            for chunk in answer.iter_raw():  # as quickly as they come
                self._end = (self._end + chunk)[-KEPT:]
                self.begun.set()

    @property
    def error(self) -> dict[str, Any]:
        self.join(120)
        return dict(json.loads(self._end.strip().split(b"data: ")[-1])["error"])


async def test_a_gateway_that_stops_refuses_who_waits_and_tells_who_listens_why_it_ends(tmp_path: Path) -> None:
    gateway = GatewayProcess(tmp_path, TRIMTAB_PROCESS__STOP_WITHIN_S=str(STOP_WITHIN_S))
    try:
        gateway.wait_ready()
        served = [Person(gateway.url) for _ in range(PARALLEL)]
        await until(lambda: all(person.begun.is_set() for person in served), "all to be answered")
        waiting = [Person(gateway.url) for _ in range(3)]
        async with httpx.AsyncClient(base_url=gateway.url, timeout=60) as kept:
            assert (await kept.get("/v1/models")).status_code == 200
            gateway.process.terminate()
            while (refused := await kept.get("/v1/models")).status_code == 200:
                pass
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "stopping")
        for person in waiting:
            assert person.error["type"] == "server_error"
            assert person.answer is not None
            assert (person.answer.status_code, person.answer.headers["retry-after"]) == (503, "5")
        assert all(person.is_alive() for person in served), "who was answered already goes on being answered"
        assert {person.error["code"] for person in served} == {"stopping"}
        assert gateway.process.wait(60) == 0, (tmp_path / "gateway.log").read_text()
    finally:
        gateway.kill()
    log = SqliteLog(tmp_path / "state" / "log.db", CLOCK)
    stored = [found for partition in range(4) for found in log.read("turns.served", partition, 0, 100)]
    outcomes = [json.loads(each.value).get("outcome", "ok") for each in stored]
    log.close()
    assert outcomes.count("aborted") == PARALLEL
