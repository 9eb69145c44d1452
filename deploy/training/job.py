"""The training job as a child process: started safely, its progress relayed, stopped in time, its last word believed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from deploy.errors import Failed
from deploy.state import GATEWAY, State
from feedback.clock import Clock
from models.spec import TrainingSpec, encode_spec

Progress = Callable[[str, int, int], object]
"""Told (phase, done, total)."""

Job = Callable[[TrainingSpec, float, Progress, Clock, threading.Event | None], Path]
"""What `run_job` is: takes a spec to a candidate directory; another may stand in its place."""

STOP_GRACE_S = 20.0
LOOK_S = 0.2
STDERR_KEPT = 2_000


class Stopped(Failed):
    """Somebody asked for the end of the training."""


def run_job(
    spec: TrainingSpec,
    time_limit_s: float,
    progress: Progress,
    clock: Clock,
    cancelled: threading.Event | None = None,
) -> Path:
    """Train; returns the candidate directory. Raises Failed with the job's own sentence, or on the time limit; Stopped
    soon after `cancelled` was set.

    Run again after a failure or a kill, it resumes at its checkpoints.
    """
    state = Path(spec.state)
    spec_file = state / "work" / "spec.json"
    spec_file.write_bytes(encode_spec(spec))
    # -P and PYTHONSAFEPATH: a `models/` in somebody's working directory must never be imported in our place.
    process = subprocess.Popen(  # noqa: S603 (our own interpreter and module)
        [sys.executable, "-P", "-m", "models.job", str(spec_file)],
        cwd=state,
        env=_environment(spec),
        stdin=subprocess.PIPE,  # closes when we die, however that happens, and then the job ends too
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    said: list[str] = []
    listener = threading.Thread(target=lambda: said.append(process.stderr.read()[-STDERR_KEPT:]), daemon=True)  # type: ignore[union-attr]
    listener.start()
    over, overtime = threading.Event(), threading.Event()
    watch = threading.Thread(target=_watch, args=(process, time_limit_s, clock, over, overtime, cancelled), daemon=True)
    watch.start()
    last: dict[str, Any] = {}
    try:
        for line in process.stdout:
            last = json.loads(line)
            if "phase" in last:
                progress(last["phase"], last["step"], last["of"])
        process.wait()
    finally:
        over.set()
        _stop(process)
    listener.join(STOP_GRACE_S)
    if overtime.is_set():
        raise Failed(f"the training took longer than {time_limit_s:.0f} s (train.time_limit_s) and was stopped")
    if cancelled is not None and cancelled.is_set() and process.returncode != 0:
        raise Stopped("the training was stopped; it goes on at its checkpoints when it is started again")
    if process.returncode != 0 or "path" not in last:
        raise Failed(_reason(process.returncode, "".join(said)))
    return Path(last["path"])


def _watch(
    process: subprocess.Popen[str],
    time_limit_s: float,
    clock: Clock,
    over: threading.Event,
    overtime: threading.Event,
    cancelled: threading.Event | None,
) -> None:
    """End the job when its time is up or somebody asked for it."""
    deadline = clock.monotonic_s() + time_limit_s
    while not over.wait(LOOK_S):
        if clock.monotonic_s() > deadline:
            overtime.set()
        if overtime.is_set() or (cancelled is not None and cancelled.is_set()):
            _stop(process)
            return


def _environment(spec: TrainingSpec) -> dict[str, str]:
    """The child's environment: ours without secrets, and with a fixed number of threads.

    Threads that spin while they wait for each other take the cores of a gateway; where there is none a step takes a seventh
    less time so, and sampling a quarter.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TRIMTAB_")}
    threads = str(spec.threads)
    if State(Path(spec.state)).played(GATEWAY):
        kept["OMP_WAIT_POLICY"] = "PASSIVE"
    return kept | {
        "PYTHONSAFEPATH": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "OMP_NUM_THREADS": threads,
        "MKL_NUM_THREADS": threads,
    }


def _stop(process: subprocess.Popen[str]) -> None:
    """End it; what does not listen is killed, else whoever reads what it says would wait for ever."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(STOP_GRACE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _reason(code: int, said: str) -> str:
    lines = [line for line in said.strip().splitlines() if line.strip()]
    if code == 1 and lines:
        return f"the training failed: {lines[-1]}"
    if code == -signal.SIGKILL:
        return "the training was killed (out of memory?): run it again to resume, or lower policy.batch_size or base.max_length"
    if code < 0:
        return f"the training was stopped by {signal.Signals(-code).name}: run it again to resume"
    return f"the training ended with code {code}: {lines[-1] if lines else 'no message'}"
