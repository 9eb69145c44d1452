"""README's "Your own bot, in three lines", as it stands there: an empty directory, an engine of one's own, a chat, a rating."""

from __future__ import annotations

import re
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from deploy.rules.schedule import NOT_TRAINED
from deploy.state import find_state
from feedback.facts.reader import Facts
from tests.dashboards.conftest import wait_for
from tests.deploy.commands import ROOT, answer, environment, free_ports
from tests.fakes import DEADLINE_S
from tests.own_engine import MODEL
from tests.test_docs import blocks

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("whole loop")]

README = (ROOT / "README.md").read_text()
SECTION = re.split(r"^## ", README, flags=re.MULTILINE)[2]
CHAT, ADMIN, ENGINE = "127.0.0.1:8400", "8401", "http://127.0.0.1:8000"


def test_it_is_the_second_section_and_shows_where_trimtab_stands() -> None:
    assert SECTION.startswith("Your own bot, in three lines")
    assert (ROOT / re.findall(r"!\[.+\]\((\S+)\)", SECTION)[0]).is_file()


def test_the_first_chat_and_rating_are_logged_within_seconds(tmp_path: Path) -> None:
    port = free_ports(6)
    (command,) = blocks(SECTION, "sh")
    (script,) = blocks(SECTION, "python")
    typed = shlex.split(command.replace(ENGINE, f"http://127.0.0.1:{port + 5}"))
    assert (typed[0], typed[-1]) == ("trimtab", MODEL)
    began = time.monotonic()
    with engine(port + 5), running([*typed[1:], "--port", f"{port}", "--admin-port", f"{port + 1}"], tmp_path) as said:
        wait_for(lambda: any(line.startswith("chat ") for line in said), "the addresses")
        assert "starting controller, gateway, worker, trainer\n" in said[:1]
        assert any(f"{MODEL} at http://127.0.0.1:{port + 5}/v1" in line and NOT_TRAINED in line for line in said)
        rate = [sys.executable, "-c", script.replace(CHAT, f"127.0.0.1:{port}")]
        subprocess.run(rate, check=True, cwd=tmp_path, env=environment(), timeout=DEADLINE_S)
        facts = Facts(find_state(tmp_path / ".trimtab").facts)
        wait_for(lambda: bool(list(facts.ratings())), "the rating among the facts")
        print(f"first logged chat and rating: {time.monotonic() - began:.1f} s")
        ((turn, _),), ((rating, _),) = facts.turns(), facts.ratings()
        assert (turn.messages[0]["content"], turn.reply) == ("Where is my order K-472?", "Your order K-472 is on its way.")
        assert (rating.turn_id, rating.kind) == (turn.turn_id, "thumbs")
        status = answer("status", cwd=tmp_path)
        assert (status["engine"]["model"], status["training"]["reason"]) == (MODEL, NOT_TRAINED)
        assert "trimtab train" not in status["serving"]["next"]
        assert answer("dataset", "seal", cwd=tmp_path)["rows"]["turns"] == 1


@contextmanager
def engine(port: int) -> Iterator[None]:
    """Somebody's own, in a process of its own."""
    with subprocess.Popen([sys.executable, "-m", "tests.own_engine", f"{port}"], cwd=ROOT) as process:
        try:
            yield
        finally:
            process.kill()


@contextmanager
def running(arguments: list[str], folder: Path) -> Iterator[list[str]]:
    """`trimtab` with these arguments; yields the lines that it prints, as they come."""
    command = [sys.executable, "-P", "-m", "deploy.cli", *arguments]
    said: list[str] = []
    with (
        (folder / "up.log").open("w") as log,
        subprocess.Popen(
            command, cwd=folder, env=environment(), stdout=subprocess.PIPE, stderr=log, text=True
        ) as process,
    ):
        assert process.stdout is not None
        threading.Thread(target=lambda out: said.extend(out), args=(process.stdout,), daemon=True).start()
        try:
            yield said
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(DEADLINE_S)
