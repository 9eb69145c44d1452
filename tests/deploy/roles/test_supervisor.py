"""`trimtab up`: its roles live and end with it, there is one of it, and it believes nobody but its own children."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from deploy.cli.roles import ADMIN_OFFSET
from deploy.state import State, open_state
from tests.deploy.commands import environment, free_ports, trimtab
from tests.fakes import until

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("whole loop")]

ROLES = tuple(ADMIN_OFFSET)


Running = tuple[subprocess.Popen[str], State]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """`trimtab up` and its state directory; who still plays a role of it at the end is killed."""
    folder = tmp_path_factory.mktemp("up")
    opened = open_state(folder / ".trimtab")
    with up(folder) as process:
        yield process, opened
    for role in ("up", *ROLES):
        if opened.played(role):
            with suppress(ProcessLookupError):
                os.kill(int((opened.root / "locks" / role).read_text()), signal.SIGKILL)


@contextmanager
def up(cwd: Path) -> Iterator[subprocess.Popen[str]]:
    """`trimtab up` on ports of its own; killed at the end if it runs yet."""
    command = [sys.executable, "-P", "-m", "deploy.cli", "up", *ports()]
    with (cwd / "up.log").open("w") as log:
        process = subprocess.Popen(
            command, cwd=cwd, env=environment(), stdout=subprocess.PIPE, stderr=log, text=True, start_new_session=True
        )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def ports() -> list[str]:
    port = free_ports(5)
    return ["--port", f"{port}", "--admin-port", f"{port + 1}"]


async def test_a_second_up_is_refused_at_once_and_starts_nobody(running: Running) -> None:
    process, state = running
    await until(lambda: state.played("up"), "the first up")
    second = trimtab("up", *ports(), cwd=state.root.parent)
    assert second.returncode == 3
    assert second.stdout == ""
    assert second.stderr.splitlines() == [
        f"trimtab: the up of {state.root} is already running (process {process.pid}): stop it first, "
        f"or give this one another directory with --state"
    ]


async def test_the_roles_end_when_up_is_killed(running: Running) -> None:
    process, state = running
    await until(lambda: all(state.played(role) for role in ROLES), "all roles")
    process.kill()
    await until(lambda: not any(state.played(role) for role in ROLES), "the end of all roles")


class Ready(BaseHTTPRequestHandler):
    """Says 200 to whatever it is asked."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


def test_what_somebody_else_on_its_ports_says_does_not_make_it_ready(tmp_path: Path) -> None:
    port = free_ports(5)
    with ExitStack() as strangers:
        for offset in range(5):
            server = strangers.enter_context(ThreadingHTTPServer(("127.0.0.1", port + offset), Ready))
            threading.Thread(target=server.serve_forever, daemon=True).start()
            strangers.callback(server.shutdown)
        failed = trimtab("up", "--port", f"{port}", "--admin-port", f"{port + 1}", cwd=tmp_path)
    assert failed.returncode == 1
    assert "http://" not in failed.stdout, "it is not ready, and does not say where it is"
    assert "can't be used" in failed.stderr
