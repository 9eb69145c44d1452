"""Stopping a process that is a role: in order, and if it can't, all the same."""

import signal
import subprocess
import sys

import pytest

STUCK = """
import asyncio, time
from deploy.web.serving import run_until_stopped
from feedback.clock import SystemClock
from deploy.roles.logs import configure

async def work(stop):
    print("up", flush=True)
    await stop.wait()
    {rest}

configure("worker")
asyncio.run(run_until_stopped(work, {within_s}, SystemClock()))
"""


def stopped(rest: str, within_s: float) -> tuple[int, str]:
    """Exit code and log of a process that is asked to stop."""
    process = subprocess.Popen(
        [sys.executable, "-P", "-c", STUCK.format(rest=rest, within_s=within_s)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"
    process.send_signal(signal.SIGTERM)
    out, error = process.communicate(timeout=60)
    return process.returncode, out + error


def test_what_was_begun_is_finished() -> None:
    code, told = stopped("await asyncio.sleep(0.05); print('finished')", within_s=50)
    assert (code, told.strip()) == (0, "finished")


@pytest.mark.parametrize(
    "rest", ["await asyncio.sleep(50)", "time.sleep(50)", "await asyncio.to_thread(time.sleep, 50)"]
)
def test_a_process_that_does_not_stop_ends_all_the_same_and_says_so(rest: str) -> None:
    code, told = stopped(rest, within_s=0.2)
    assert code == 1
    assert "stopped_unfinished" in told
    assert "process.stop_within_s" in told


ORPHAN = """
import asyncio, os, time
from deploy.web.serving import run_until_stopped
from feedback.clock import SystemClock
from deploy.roles.logs import configure

def wait_gone():
    while os.read(0, 1):
        pass

async def work(stop):
    print("up", flush=True)
    {rest}

configure("worker")
asyncio.run(run_until_stopped(work, {within_s}, SystemClock(), wait_gone))
"""


def orphaned(rest: str, within_s: float) -> tuple[int, str]:
    """Exit code and log of a process whose parent goes."""
    process = subprocess.Popen(
        [sys.executable, "-P", "-c", ORPHAN.format(rest=rest, within_s=within_s)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"
    out, error = process.communicate(timeout=60)  # closes its stdin
    return process.returncode, out + error


def test_a_process_whose_parent_is_gone_stops_in_order() -> None:
    code, told = orphaned("await stop.wait(); print('finished')", within_s=50)
    assert (code, "finished" in told, "parent_gone" in told) == (0, True, True)


def test_a_process_in_a_long_call_ends_with_its_parent_too() -> None:
    code, told = orphaned("time.sleep(50)", within_s=0.2)
    assert (code, "stopped_unfinished" in told) == (1, True)
