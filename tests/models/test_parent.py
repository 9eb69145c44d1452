"""A process ends with whoever started it, and only then."""

import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow
CODE = "from models.parent import end_with_parent; end_with_parent(); print('on', flush=True); import threading; "


def test_when_the_parent_s_pipe_closes_the_process_ends() -> None:
    command = [sys.executable, "-c", CODE + "threading.Event().wait()"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        assert child.stdout.readline() == "on\n"
        assert child.poll() is None
        child.stdin.close()
        assert child.wait(60) == 1


def test_without_a_pipe_it_goes_on_to_its_end() -> None:
    command = [sys.executable, "-c", CODE + "print('done')"]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "on\ndone\n"
