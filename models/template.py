"""A base's chat template, which comes with the base and may do anything: it is rendered in a process of its own, within limits.

That process is started when it is first needed, and again when a template had to be ended with it. A rendering
takes a fifth of a millisecond more for it, and models.chat renders each sequence of roles once.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from typing import Any, NamedTuple

import jinja2

from models.errors import JobFailed

MOST_STOPPED = 3
"""Renderings that a template may have stopped; then it is not asked any more."""
SMALL = 100
"""Messages of a conversation in which every template ends: of a larger one the conversation may be to blame."""


class Limits(NamedTuple):
    """Of one rendering."""

    cpu_s: int
    wall_s: int
    memory_bytes: int


LIMITS = Limits(cpu_s=5, wall_s=60, memory_bytes=1 << 30)


class TemplateProcess:
    """One process, for one caller at a time; any thread may ask, and all templates of a process share it."""

    def __init__(self, limits: Limits = LIMITS) -> None:
        self._limits = limits
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None

    def ask(self, question: dict[str, Any]) -> dict[str, Any]:
        """The answer of models.template_process; where it had to end, a `stopped` one that says why."""
        line = json.dumps(question).encode() + b"\n"
        with self._lock:
            answer, why = self._asked(line)
            if not answer and why is None:  # somebody killed it, and not for what it was asked
                answer, why = self._asked(line)
        if answer:
            found: dict[str, Any] = json.loads(answer)
            return found
        return {"error": why or "the process that renders it ends at once: out of memory?", "stopped": why is not None}

    def close(self) -> None:
        """End it; asked again, another starts."""
        with self._lock:
            self._end()

    def kill(self) -> None:
        """As the system may."""
        with self._lock:
            if self._process is not None:
                self._process.kill()
                self._process.wait()

    def _asked(self, line: bytes) -> tuple[bytes, str | None]:
        """The answer; or nothing, and which limit it came to, None where it was none of them."""
        process = self._started()
        assert process.stdin is not None
        assert process.stdout is not None
        answer = b""
        with suppress(OSError):
            process.stdin.write(line)
            process.stdin.flush()
            answer = process.stdout.readline()
        if answer.endswith(b"\n"):
            return answer, None
        code = self._end()
        return b"", self._why(-code)

    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._process.poll() is not None:
            self._end()
            command = [sys.executable, "-P", "-m", "models.template_process", *map(str, self._limits)]
            self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)  # noqa: S603 - our own interpreter and module
        return self._process

    def _end(self) -> int:
        """Its exit code."""
        process, self._process = self._process, None
        if process is None:
            return 0
        for pipe in (process.stdin, process.stdout):
            with suppress(OSError):  # what was not written yet has nobody to read it
                if pipe is not None:
                    pipe.close()
        return process.wait()

    def _why(self, number: int) -> str | None:
        if number == signal.SIGPROF:
            return f"it takes more than {self._limits.cpu_s} s of processor time"
        if number == signal.SIGALRM:
            return f"it takes more than {self._limits.wall_s} s"
        if number in (signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS):
            return "it takes more memory than it may"
        return None


_SHARED = TemplateProcess()


class Template:
    """Jinja in the process that is shared, within limits."""

    def __init__(self, text: str, process: TemplateProcess = _SHARED) -> None:
        """Raises jinja2.TemplateError where it is no template."""
        self._text, self._process = text, process
        self._stopped = 0
        self._ask(None, None)

    def rendered(self, variables: dict[str, Any], day: str | None = None) -> str:
        """What it makes of `messages` and the other variables, which JSON can say, on this day (YYYY-MM-DD; None: today).

        Raises jinja2.TemplateError where it refuses, and where it does not end within the limits; JobFailed once that has
        happened MOST_STOPPED times with small conversations.
        """
        if self._stopped >= MOST_STOPPED:
            raise _distrusted()
        return self._ask(variables, day)

    def _ask(self, variables: dict[str, Any] | None, day: str | None) -> str:
        answer = self._process.ask({"template": self._text, "variables": variables, "day": day})
        if (text := answer.get("text")) is not None:
            return str(text)
        if answer["stopped"] and len((variables or {}).get("messages", ())) <= SMALL:
            self._stopped += 1
            if self._stopped >= MOST_STOPPED:
                raise _distrusted()
        raise jinja2.TemplateError(answer["error"])


def _distrusted() -> JobFailed:
    return JobFailed(
        f"the base model's chat template was stopped {MOST_STOPPED} times, because it did not end or took too much memory: "
        f"correct it, or choose another base"
    )
