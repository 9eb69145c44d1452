"""Chat templates in a process of their own (models.template asks it): what no count bounds, the system's limits do.

Reads JSON documents from stdin, one a line: `template`, and `variables` to render it with, or none to only read it; `day`
(YYYY-MM-DD) is what it says the day is. Answers each with a line: `text`, or `error` with whether it was `stopped`. Ends with
its stdin, and where one document takes longer than the seconds in its arguments: of processor time, and in all.
"""

from __future__ import annotations

import json
import resource
import signal
import sys
from contextlib import suppress
from datetime import datetime
from functools import lru_cache
from typing import Any, BinaryIO

import jinja2

from models.sandbox import Unbounded, compiled, rendered


def main(arguments: list[str]) -> None:
    """Serve until stdin ends."""
    cpu_s, wall_s, memory = map(int, arguments)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's is for whoever started this, who closes stdin
    for ends in (signal.SIGPROF, signal.SIGALRM):  # by default they end the process, whatever Python is busy with
        signal.signal(ends, signal.SIG_DFL)
    with suppress(ValueError, OSError):  # not every system has it
        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    serve(sys.stdin.buffer, sys.stdout.buffer, cpu_s, wall_s)


def serve(asked: BinaryIO, answers: BinaryIO, cpu_s: int, wall_s: int) -> None:
    """Answer line by line."""
    for line in asked:
        signal.setitimer(signal.ITIMER_PROF, cpu_s)
        signal.alarm(wall_s)
        answer = json.dumps(_answer(json.loads(line))).encode()
        signal.alarm(0)
        signal.setitimer(signal.ITIMER_PROF, 0)
        answers.write(answer + b"\n")
        answers.flush()


def _answer(asked: dict[str, Any]) -> dict[str, Any]:
    try:
        template = _compiled(asked["template"])
        if (variables := asked["variables"]) is None:
            return {"text": ""}
        if asked["day"] is not None:
            variables["strftime_now"] = datetime.fromisoformat(asked["day"]).strftime
        return {"text": rendered(template, variables)}
    except jinja2.TemplateError as error:
        return {"error": str(error)[:500] or type(error).__name__, "stopped": isinstance(error, Unbounded)}
    except (MemoryError, RecursionError):
        return {"error": "it takes more memory than it may", "stopped": True}
    except Exception as error:  # a template that is none may fail in any way while it is read
        return {"error": f"{type(error).__name__}: {error}"[:500], "stopped": False}


_compiled = lru_cache(8)(compiled)


if __name__ == "__main__":
    main(sys.argv[1:])
