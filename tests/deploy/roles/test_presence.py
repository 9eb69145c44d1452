"""Who plays which role: known while it lives, known to have died when it was killed, forgotten when it ended in order."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from deploy.roles.presence import Presence, present, this_process, url_of, who_is_there
from tests.deploy.commands import ROOT

NOW_US = 1_800_000_000_000_000


def worker(seat: int = 1) -> Presence:
    return this_process("worker", seat, NOW_US, ("127.0.0.1", 8403))


def test_a_role_is_there_while_it_is_played(tmp_path: Path) -> None:
    assert who_is_there(tmp_path) == ([], [])
    with present(tmp_path, worker()), present(tmp_path, worker(2)):
        alive, dead = who_is_there(tmp_path)
        assert ([presence.name for presence in alive], dead) == (["worker", "worker 2"], [])
        assert (alive[0].admin, alive[0].is_here) == ("http://127.0.0.1:8403", True)
    assert who_is_there(tmp_path) == ([], [])


DYING = """
import os, signal, sys
from pathlib import Path
from tests.deploy.roles.test_presence import worker
from deploy.roles.presence import present
with present(Path(sys.argv[1]), worker()):
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_who_was_killed_is_known_until_another_takes_its_place(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", DYING, str(tmp_path)], cwd=ROOT, check=False)
    alive, (dead,) = who_is_there(tmp_path)
    assert (alive, dead.name) == ([], "worker")
    with present(tmp_path, worker(2)):
        assert who_is_there(tmp_path)[1] == [dead]
    with present(tmp_path, worker()):
        assert [presence.pid for presence in who_is_there(tmp_path)[0]] == [worker().pid]
        assert who_is_there(tmp_path)[1] == []


def test_a_disk_that_takes_no_note_stops_nobody(tmp_path: Path) -> None:
    (tmp_path / "roles").write_text("not a directory")
    with present(tmp_path, worker()):
        assert who_is_there(tmp_path) == ([], [])


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:1"),
        ("0.0.0.0", "http://127.0.0.1:1"),
        ("::", "http://[::1]:1"),
        ("::1", "http://[::1]:1"),
        ("a.example", "http://a.example:1"),
    ],
)
def test_an_address_is_one_that_this_machine_reaches(host: str, url: str) -> None:
    assert url_of(host, 1) == url
