"""The line between `up` and a role: each hears the other, and its end, however that came about."""

from __future__ import annotations

import os
import socket
import sys
import threading
from pathlib import Path

import pytest

from deploy.roles.lifeline import Lifeline, start
from tests.fakes import DEADLINE_S, until


def line() -> tuple[Lifeline, Lifeline]:
    """Both ends."""
    ours, theirs = socket.socketpair()
    return Lifeline(ours), Lifeline(theirs)


def waits_gone(end: Lifeline) -> threading.Thread:
    waiting = threading.Thread(target=end.wait_gone, daemon=True)
    waiting.start()
    return waiting


def test_that_the_other_is_ready_is_heard_once_it_said_so_and_not_again() -> None:
    up, role = line()
    assert not up.heard_ready()
    role.say_ready()
    assert up.heard_ready()
    assert not up.heard_ready()
    role.say_ready()
    assert up.heard_ready()


def test_whoever_waits_for_the_end_of_the_other_waits_for_nothing_else() -> None:
    up, role = line()
    waiting = waits_gone(role)
    up.say_ready()
    assert waiting.is_alive()
    up.close()
    waiting.join(DEADLINE_S)
    assert not waiting.is_alive()


def test_one_that_is_gone_is_not_ready_and_what_is_said_to_it_does_no_harm() -> None:
    up, role = line()
    role.close()
    up.say_ready()
    assert not up.heard_ready()
    assert not up.heard_ready()


CHILD = """
from deploy.roles.lifeline import Lifeline
line = Lifeline.of_child()
line.say_ready()
line.wait_gone()
"""
READY_AND_GONE = "import os; os.write(0, b'ready\\n')"


def python(code: str) -> list[str]:
    return [sys.executable, "-P", "-c", code]


async def test_a_process_says_that_it_is_ready_and_ends_when_whoever_started_it_is_gone() -> None:
    process, ours = start(python(CHILD), dict(os.environ))
    await until(ours.heard_ready, "the child is ready")
    assert process.poll() is None
    assert os.getpgid(process.pid) == process.pid, "Ctrl-C reaches it through us alone"
    ours.close()
    assert process.wait(DEADLINE_S) == 0


async def test_what_a_process_said_is_heard_though_it_has_ended() -> None:
    process, ours = start(python(READY_AND_GONE), dict(os.environ))
    assert process.wait(DEADLINE_S) == 0
    assert ours.heard_ready()
    assert not ours.heard_ready()


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_a_process_that_can_not_be_started_leaves_no_end_open(tmp_path: Path) -> None:
    before = open_files()
    with pytest.raises(FileNotFoundError):
        start([str(tmp_path / "nothing")], {})
    assert open_files() == before
