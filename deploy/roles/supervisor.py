"""`trimtab up`: the four roles as child processes; one that dies is started again, all are stopped together.

When this process dies, killed perhaps, its children see their end of the lifeline close and stop in order.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import structlog

from deploy.roles import lifeline
from deploy.roles.lifeline import Lifeline
from feedback.clock import Clock

READY_WITHIN_S = 60.0
STOP_MARGIN_S = 5.0
"""How much longer than it may take a role is waited for, before it is killed."""

LOOK_S = 0.2
STEADY_S = 60.0
"""A role that ran this long begins with the shortest pause again when it dies."""

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 30.0

log = structlog.get_logger()


@dataclass
class Child:
    """One child: its command, and how its life went so far."""

    name: str
    arguments: Sequence[str]
    process: subprocess.Popen[bytes] | None = None
    line: Lifeline | None = None
    ready: bool = False
    """Whether this process, and no other on its ports, has said that it can do its work."""
    started_at_s: float = 0.0
    pause_s: float = FIRST_PAUSE_S
    start_at_s: float = 0.0
    exits: list[int] = field(default_factory=list)

    def start(self, now_s: float) -> None:
        """Start the child in a process group of its own, so that Ctrl-C reaches it through us alone."""
        command = [sys.executable, "-P", "-m", "deploy.cli", self.name, "--supervised", *self.arguments]
        self.process, self.line = lifeline.start(command, {**os.environ, "PYTHONSAFEPATH": "1"})
        self.started_at_s, self.ready = now_s, False

    def look(self) -> int | None:
        """Hear what the child says; its exit code once it has ended."""
        if self.process is None or self.line is None:
            return None
        self.ready = self.ready or self.line.heard_ready()
        code = self.process.poll()
        if code is not None:
            self.line.close()
            self.process, self.line, self.ready = None, None, False
        return code


def supervise(
    children: Sequence[Child],
    stopping: Callable[[], bool],
    on_ready: Callable[[], object],
    stop_within_s: float,
    clock: Clock,
) -> int:
    """Run all roles until `stopping()`; returns an exit code: 1 if a role refused to start at all."""
    for child in children:
        child.start(clock.monotonic_s())
    told, deadline = False, clock.monotonic_s() + READY_WITHIN_S
    try:
        while not stopping():
            for child in children:
                code = _look_after(child, clock.monotonic_s())
                if code is not None and not told:  # it never came up: starting it again would not help
                    return code
            if not told and all(child.ready for child in children):
                told = True
                on_ready()
            elif (
                not told and clock.monotonic_s() > deadline
            ):  # a gateway without a base model waits for the first training
                waiting = ", ".join(child.name for child in children if not child.ready)
                log.warning("not_ready", roles=waiting, after_s=READY_WITHIN_S)
                told = True
                on_ready()
            clock.pause(LOOK_S)
    finally:
        _stop(children, stop_within_s + STOP_MARGIN_S, clock)
    return 0


def _look_after(child: Child, now: float) -> int | None:
    """Start a dead role again once its pause is over; returns the exit code with which it just died."""
    if child.process is None:
        if now >= child.start_at_s:
            child.start(now)
        return None
    code = child.look()
    if code is None:
        return None
    child.pause_s = FIRST_PAUSE_S if now - child.started_at_s > STEADY_S else min(2 * child.pause_s, LONGEST_PAUSE_S)
    child.start_at_s = now + child.pause_s
    child.exits.append(code)
    log.error("role_ended", role=child.name, code=code, again_in_s=child.pause_s)
    return code if code != 0 else 1


def _stop(children: Sequence[Child], within_s: float, clock: Clock) -> None:
    running = [child.process for child in children if child.process is not None]
    for process in running:
        process.terminate()
    deadline = clock.monotonic_s() + within_s
    for process in running:
        try:
            process.wait(max(0.1, deadline - clock.monotonic_s()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
