"""What roles say of themselves: asked over HTTP on their admin ports, as they are."""

from __future__ import annotations

import asyncio
from pathlib import Path

from prometheus_client import REGISTRY

from deploy.cli.roles_view import SPOOL_LIMIT, TURNS_LOST, as_document, line, look, told
from deploy.console.port import admin_app
from deploy.gateway import metrics
from deploy.roles.others import SILENT
from deploy.roles.presence import Presence, present, this_process
from tests.deploy.gateways import served

NOW_US = 1_800_000_000_000_000


def presence(role: str, url: str | None, host: str | None = None) -> Presence:
    its = this_process(role, 1, NOW_US - 7_200_000_000, None)
    return Presence(role, 1, its.pid, host or its.host, its.started_at_us, url)


async def test_a_role_is_ready_or_says_what_it_waits_for_and_tells_its_figures(tmp_path: Path) -> None:
    metrics.SPOOL_LIMIT_BYTES.set(1_000)
    metrics.TURNS_LOST.inc()
    lost = REGISTRY.get_sample_value(TURNS_LOST)
    async with served(admin_app(lambda: None)) as ready, served(admin_app(lambda: "no base model yet")) as waiting:
        with present(tmp_path, presence("gateway", ready)), present(tmp_path, presence("worker", waiting)):
            seen = await asyncio.to_thread(look, tmp_path)
    assert [(one.presence.role, one.alive, one.waits) for one in seen] == [
        ("gateway", True, None),
        ("worker", True, "no base model yet"),
    ]
    assert told(seen[:1], TURNS_LOST) == lost
    assert told(seen[:1], SPOOL_LIMIT) == 1_000
    first, second = as_document(seen, NOW_US)
    assert (first["ready"], first["since_s"], second["ready"]) == (True, 7_200, False)
    assert line(first) == f"gateway ready (process {first['process']}, started 2 h ago)"
    assert line(second).endswith("NOT READY (" + line(first).partition("(")[2] + ": no base model yet")


def test_a_role_that_does_not_answer_or_is_elsewhere_is_alive_and_not_known_to_be_ready(tmp_path: Path) -> None:
    there = presence("worker", "http://127.0.0.1:9", host="another-machine")
    with present(tmp_path, presence("gateway", "http://127.0.0.1:9")), present(tmp_path, there):
        gateway, worker = look(tmp_path)
    assert (gateway.alive, gateway.waits, gateway.figures) == (True, SILENT, {})
    assert (worker.alive, worker.waits) == (True, "it can be asked on another-machine only")
    assert told([gateway, worker], TURNS_LOST) is None


def test_a_role_that_died_says_so(tmp_path: Path) -> None:
    with present(tmp_path, presence("worker", None)):
        (note,) = (tmp_path / "roles").iterdir()
        left = note.read_bytes()
    note.write_bytes(left)
    (dead,) = as_document(look(tmp_path), NOW_US)
    assert (dead["alive"], dead["ready"]) == (False, False)
    assert line(dead).startswith("worker DIED")
