"""What a role's process says on stderr: one JSON object a line, whoever says it."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

CONFIGURED = "import logging, structlog; from deploy.roles.logs import configure; configure('worker')\n"


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-P", "-c", CONFIGURED + code], capture_output=True, text=True, check=True)


def said(code: str) -> list[dict[str, Any]]:
    """The lines of a process of its own, which is how logging is set up once."""
    done = run(code)
    assert done.stdout == ""
    return [json.loads(line) for line in done.stderr.splitlines()]


def test_what_a_role_says_is_one_object_with_its_role_its_level_and_when() -> None:
    (line,) = said("structlog.get_logger().info('training_started', reason='3 new\\nlabels')")
    assert line.pop("timestamp").endswith("Z")
    assert line == {"event": "training_started", "reason": "3 new\nlabels", "level": "info", "role": "worker"}


def test_a_library_is_heard_from_a_warning_on_and_keeps_to_one_object_a_line() -> None:
    lines = said("""
library = logging.getLogger("some.library")
library.info("a banner")
library.warning("%s is slow\\nand more", "the disk")
try:
    1 / 0
except ZeroDivisionError:
    library.exception("it broke")
import threading
thread = threading.Thread(target=library.warning, args=("from elsewhere",))
thread.start()
thread.join()
""")
    warned, broke, elsewhere = lines
    assert (elsewhere["event"], elsewhere["role"]) == ("from elsewhere", "worker")
    assert (warned["event"], warned["level"], warned["role"]) == ("the disk is slow\nand more", "warning", "worker")
    assert warned["logger"] == "some.library"
    assert broke["level"] == "error"
    assert "ZeroDivisionError: division by zero" in broke["exception"]


def test_an_error_comes_with_its_traceback_in_the_same_line() -> None:
    (line,) = said("""
try:
    1 / 0
except ZeroDivisionError:
    structlog.get_logger().exception("it_broke", place=7)
""")
    assert (line["event"], line["place"]) == ("it_broke", 7)
    assert "ZeroDivisionError: division by zero" in line["exception"]


def test_a_line_leaves_in_one_piece_also_unbuffered_so_that_two_processes_lines_do_not_mix() -> None:
    pieces = run("""
import io, sys
class Stream(io.StringIO):
    def write(self, text):
        sys.stdout.write(repr(text) + "\\n")
sys.stderr = Stream()
configure("worker")
structlog.get_logger().info("one")
""").stdout.splitlines()
    assert len(pieces) == 1, pieces


def test_a_thread_of_ours_says_its_role_too() -> None:
    (line,) = said("""
import threading
thread = threading.Thread(target=structlog.get_logger().warning, args=("parent_gone",))
thread.start()
thread.join()
""")
    assert (line["event"], line["role"]) == ("parent_gone", "worker")


def test_a_full_disk_is_told_in_a_line_wherever_it_was_met() -> None:
    lines = said("""
import errno, sqlite3
for full in (OSError(errno.ENOSPC, "No space left on device"), sqlite3.OperationalError("database or disk is full")):
    for tell in (structlog.get_logger().exception, logging.getLogger("some.library").exception):
        try:
            try:
                raise full
            except Exception as error:
                raise RuntimeError("a commit failed") from error
        except RuntimeError:
            tell("it_broke")
""")
    assert [line["error"].startswith("the disk is full: ") for line in lines] == [True] * 4
    assert not any("Traceback" in json.dumps(line) for line in lines)
