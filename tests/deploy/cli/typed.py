"""A command as it is typed, in this process: fast enough for every sentence that a person may be told."""

from __future__ import annotations

from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import NamedTuple

from deploy.cli import common, trimtab


class Said(NamedTuple):
    """How a command ended and what it said."""

    code: int
    out: str
    error: str


def typed(*words: str | Path) -> Said:
    """Run a command to its end; what is a fault of ours comes out as the exception that it is."""
    with redirect_stdout(StringIO()) as out, redirect_stderr(StringIO()) as error:
        code = common.run(lambda: trimtab.main([str(word) for word in words], standalone_mode=False))
    return Said(code, out.getvalue(), error.getvalue())


def sentence(said: Said, code: int) -> str:
    """What a command that ended so said: one line on stderr, nothing on stdout."""
    assert (said.code, said.out) == (code, ""), said
    (line,) = said.error.splitlines()
    return line.removeprefix("trimtab: ")
