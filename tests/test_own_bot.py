"""README's "Your own bot, in three lines", as it stands there: an empty directory, an engine of one's own, a chat, a rating.

And the snippets for Node and React of docs/connect-your-bot.md against the same service.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
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

SECTION = re.split(r"^## ", (ROOT / "README.md").read_text(), flags=re.MULTILINE)[2]
CONNECT = (ROOT / "docs" / "connect-your-bot.md").read_text()
CHAT, ENGINE = "127.0.0.1:8400", "http://127.0.0.1:8000"
NODE = ROOT / ".make" / "node" / "node_modules"


@dataclass(frozen=True)
class Bot:
    """What README's command has started: in this directory, on this port; what it printed, and when it began."""

    root: Path
    port: int
    said: list[str]
    began_s: float

    @property
    def facts(self) -> Facts:
        return Facts(find_state(self.root / ".trimtab").facts)

    def here(self, snippet: str) -> str:
        """A snippet that asks this service."""
        return snippet.replace(CHAT, f"127.0.0.1:{self.port}")

    def rated(self, count: int) -> None:
        """Once so many ratings are facts."""
        wait_for(lambda: len(list(self.facts.ratings())) >= count, f"{count} ratings among the facts")


@pytest.fixture(scope="module")
def bot(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bot]:
    root, port = tmp_path_factory.mktemp("own"), free_ports(6)
    (command,) = blocks(SECTION, "sh")
    first, *typed = shlex.split(command.replace(ENGINE, f"http://127.0.0.1:{port + 5}"))
    assert (first, typed[-1]) == ("trimtab", MODEL)
    began_s = time.monotonic()
    with engine(port + 5), running([*typed, "--port", f"{port}", "--admin-port", f"{port + 1}"], root) as said:
        wait_for(lambda: any(line.startswith("chat ") for line in said), "the addresses")
        yield Bot(root, port, said, began_s)


def test_it_is_the_second_section_and_shows_where_trimtab_stands() -> None:
    assert SECTION.startswith("Your own bot, in three lines")
    assert (ROOT / re.findall(r"!\[.+\]\((\S+)\)", SECTION)[0]).is_file()


def test_the_first_chat_and_rating_are_logged_within_seconds(bot: Bot) -> None:
    (script,) = blocks(SECTION, "python")
    subprocess.run([sys.executable, "-c", bot.here(script)], check=True, cwd=bot.root, timeout=DEADLINE_S)
    bot.rated(1)
    print(f"first logged chat and rating: {time.monotonic() - bot.began_s:.1f} s")
    ((turn, _),), ((rating, _),) = bot.facts.turns(), bot.facts.ratings()
    assert (turn.messages[0]["content"], turn.reply) == ("Where is my order K-472?", "Your order K-472 is on its way.")
    assert (rating.turn_id, rating.kind, rating.value) == (turn.turn_id, "thumbs", True)


def test_what_is_prepared_is_said_before_the_addresses(bot: Bot) -> None:
    assert bot.said[0] == "starting controller, gateway, worker, trainer\n"
    asked = f"chats are answered by {MODEL} at http://127.0.0.1:{bot.port + 5}/v1"
    assert bot.said[1] == f"{asked}; {NOT_TRAINED}\n"


def test_another_terminal_knows_that_nothing_is_trained_and_seals(bot: Bot) -> None:
    status = answer("status", cwd=bot.root)
    assert (status["engine"]["model"], status["training"]["reason"]) == (MODEL, NOT_TRAINED)
    assert "trimtab train" not in status["serving"]["next"]
    sealed = answer("dataset", "seal", cwd=bot.root)
    assert [one["name"] for one in answer("dataset", "ls", cwd=bot.root)] == [sealed["name"]]


def test_the_snippet_for_node_chats_and_rates(bot: Bot, tmp_path: Path) -> None:
    openai, _ = blocks(CONNECT, "js")
    needs_node(NODE / "openai")
    (tmp_path / "node_modules").symlink_to(NODE)
    before = len(list(bot.facts.ratings()))
    assert node(bot.here(openai), tmp_path) == "Your order K-472 is on its way.\n"
    bot.rated(before + 1)


REACT = """\
export function useState(initial) {
  const state = [initial, (next) => { state[0] = next; globalThis.seen = next; }];
  return state;
}
"""
USE = """
const chat = useChat();
await chat.send("Where is my order?");
const { role, content, id } = globalThis.seen.at(-1);
await chat.rate(id, false);
console.log(globalThis.seen.length, role, content);
"""


def test_the_hook_for_react_chats_and_rates(bot: Bot, tmp_path: Path) -> None:
    """With as much of React as it needs."""
    _, hook = blocks(CONNECT, "js")
    needs_node()
    react = tmp_path / "node_modules" / "react"
    react.mkdir(parents=True)
    (react / "package.json").write_text('{"name": "react", "type": "module", "exports": "./index.js"}')
    (react / "index.js").write_text(REACT)
    before = len(list(bot.facts.ratings()))
    assert node(bot.here(hook) + USE, tmp_path) == "2 assistant Your order K-472 is on its way.\n"
    bot.rated(before + 1)


def needs_node(*modules: Path) -> None:
    if shutil.which("node") is None or not all(module.is_dir() for module in modules):
        missing = "OpenAI's client for Node is not installed: install node and npm, then make .make/node"
        pytest.fail(missing) if os.environ.get("CI") else pytest.skip(missing)


def node(script: str, folder: Path) -> str:
    """What this module prints."""
    (folder / "script.mjs").write_text(script)
    done = subprocess.run(["node", "script.mjs"], cwd=folder, capture_output=True, text=True, timeout=DEADLINE_S)
    assert done.returncode == 0, done.stderr
    return done.stdout


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
        threading.Thread(target=said.extend, args=(process.stdout,), daemon=True).start()
        try:
            yield said
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(DEADLINE_S)
