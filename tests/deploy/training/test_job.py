"""The training as a child process: what it says is told, how it ends is a sentence, and it never outlives its time."""

from __future__ import annotations

import json
import os
import sys
import threading
from contextlib import nullcontext
from pathlib import Path

import msgspec
import pytest

from deploy.errors import Failed
from deploy.state import open_state
from deploy.training import job
from deploy.training.job import Stopped, run_job
from models.spec import TrainingSpec, load_spec
from tests.fakes import CLOCK, DEADLINE_S, ManualClock

FOUND = """echo '{"candidate": "abc", "path": "/candidates/abc"}'"""
BEGUN = """echo '{"phase": "base", "step": 0, "of": 0}'"""
FOR_EVER = "exec sleep 1000"


class Job:
    """A shell script in the job's place."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.spec = TrainingSpec(snapshot=str(root / "snapshot"), state=str(root), threads=3)
        self.told: list[tuple[str, int, int]] = []
        self._script = root / "python"
        (root / "work").mkdir()
        monkeypatch.setattr(sys, "executable", str(self._script))

    def run(
        self,
        *lines: str,
        clock: ManualClock | None = None,
        time_limit_s: float = DEADLINE_S,
        cancelled: threading.Event | None = None,
        at_once: threading.Event | None = None,
    ) -> Path:
        """Run it; `at_once` is set, and the clock's time is over, as soon as it has said something."""
        self._script.write_text("\n".join(("#!/bin/sh", *lines)))
        self._script.chmod(0o700)

        def told(phase: str, done: int, of: int) -> None:
            self.told.append((phase, done, of))
            if at_once is not None:
                at_once.set()
            if clock is not None:
                clock.set_forward(time_limit_s + 1)

        return run_job(self.spec, time_limit_s, told, clock or CLOCK, cancelled)


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Job:
    return Job(tmp_path, monkeypatch)


def test_its_phases_are_told_and_its_last_word_is_the_candidate(script: Job) -> None:
    assert script.run(BEGUN, """echo '{"phase": "reward", "step": 3, "of": 9}'""", FOUND) == Path("/candidates/abc")
    assert script.told == [("base", 0, 0), ("reward", 3, 9)]


def test_it_is_asked_for_what_the_spec_says_in_the_state_directory(script: Job, tmp_path: Path) -> None:
    script.run('echo "$@" > arguments', FOUND)
    *flags, spec = (tmp_path / "arguments").read_text().split()
    assert flags == ["-P", "-m", "models.job"]
    assert load_spec(Path(spec)) == script.spec


def test_it_knows_none_of_our_secrets_and_has_its_threads(
    script: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRIMTAB_BROKER__PASSWORD", "hunter2")
    script.run("env > environment", FOUND)
    told = (tmp_path / "environment").read_text()
    assert "hunter2" not in told
    assert "OMP_NUM_THREADS=3\n" in told


@pytest.mark.parametrize("beside_gateway", [True, False])
def test_its_threads_wait_without_spinning_where_a_gateway_wants_the_cores(
    script: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, beside_gateway: bool
) -> None:
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    state = open_state(tmp_path / "state")
    script.spec = msgspec.structs.replace(script.spec, state=str(state.root))
    with state.seat(1) if beside_gateway else nullcontext():
        script.run("env > environment", FOUND)
    assert ("OMP_WAIT_POLICY=PASSIVE\n" in (state.root / "environment").read_text()) == beside_gateway


ENDS = {
    "its own sentence": (["echo warning >&2", "echo 'the disk is full' >&2", "exit 1"], "the training failed: the disk is full"),
    "killed": (["kill -KILL $$"], r"was killed \(out of memory\?\): run it again to resume"),
    "stopped": (["kill -TERM $$"], "was stopped by SIGTERM: run it again to resume"),
    "a code": (["exit 7"], "ended with code 7: no message"),
    "no candidate": ([BEGUN], "ended with code 0: no message"),
}  # fmt: skip


@pytest.mark.parametrize("how", ENDS)
def test_how_it_failed_is_a_sentence(script: Job, how: str) -> None:
    lines, said = ENDS[how]
    with pytest.raises(Failed, match=said):
        script.run(*lines)


def test_a_job_that_says_much_on_stderr_goes_on(script: Job) -> None:
    assert script.run("head -c 1000000 /dev/zero >&2", FOUND) == Path("/candidates/abc")


def test_one_that_takes_too_long_is_stopped_and_the_setting_is_named(script: Job) -> None:
    with pytest.raises(Failed, match=r"longer than 3600 s \(train.time_limit_s\) and was stopped"):
        script.run(BEGUN, FOR_EVER, clock=ManualClock(), time_limit_s=3_600)


def test_one_that_nobody_wants_any_more_is_stopped_and_goes_on_later(script: Job) -> None:
    cancelled = threading.Event()
    with pytest.raises(Stopped, match="goes on at its checkpoints"):
        script.run(BEGUN, FOR_EVER, cancelled=cancelled, at_once=cancelled)


def test_one_that_does_not_listen_is_killed(script: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job, "STOP_GRACE_S", 0.1)
    with pytest.raises(Failed, match="longer than 3600 s"):
        script.run("trap '' TERM", BEGUN, FOR_EVER, clock=ManualClock(), time_limit_s=3_600)


def test_one_that_was_done_before_it_could_be_stopped_is_believed(script: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job, "LOOK_S", DEADLINE_S)
    cancelled = threading.Event()
    assert script.run(BEGUN, FOUND, cancelled=cancelled, at_once=cancelled) == Path("/candidates/abc")


def test_whoever_fails_while_it_runs_leaves_none_behind(script: Job, tmp_path: Path) -> None:
    def fails(phase: str, done: int, of: int) -> None:
        raise KeyError(phase)

    script.run(FOUND)
    (tmp_path / "python").write_text("\n".join(("#!/bin/sh", "echo $$ > pid", BEGUN, FOR_EVER)))
    with pytest.raises(KeyError):
        run_job(script.spec, DEADLINE_S, fails, CLOCK)
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


@pytest.mark.slow
def test_the_real_job_says_in_a_sentence_why_it_can_not_train(tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    spec = TrainingSpec(snapshot=str(tmp_path / "nothing"), state=str(tmp_path))
    with pytest.raises(Failed, match=r"the training failed: .*nothing") as raised:
        run_job(spec, DEADLINE_S, lambda *_: None, CLOCK)
    assert "Traceback" not in str(raised.value)
    assert json.loads((tmp_path / "work" / "spec.json").read_bytes())["snapshot"] == spec.snapshot
