"""A command as it is typed, in this process: fast enough for every sentence that a person may be told."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from io import BytesIO, TextIOWrapper
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import structlog

from deploy.cli import common, trimtab


@contextmanager
def streams() -> Iterator[tuple[BytesIO, BytesIO]]:
    """Output as it leaves a process: UTF-8, strict on stdout."""
    out, error = BytesIO(), BytesIO()
    with (
        TextIOWrapper(out, "utf-8", write_through=True) as printed,
        TextIOWrapper(error, "utf-8", "backslashreplace", write_through=True) as said,
        redirect_stdout(printed),
        redirect_stderr(said),
    ):
        yield out, error


@contextmanager
def logs_of_its_own() -> Iterator[None]:
    """A command may set up logging, as its process's own; here it is as before afterwards, and no logger keeps its stream."""
    before, configure = structlog.get_config(), structlog.configure

    def uncached(**settings: Any) -> None:
        configure(**{**settings, "cache_logger_on_first_use": False})

    with patch("structlog.configure", uncached):
        try:
            yield
        finally:
            configure(**before)


class Said(NamedTuple):
    """How a command ended and what it said."""

    code: int
    out: str
    error: str


def typed(*words: str | Path) -> Said:
    """Run a command to its end; what is a fault of ours comes out as the exception that it is."""
    with streams() as (out, error), logs_of_its_own():
        code = common.run(lambda: trimtab.main([str(word) for word in words], standalone_mode=False))
        return Said(code, out.getvalue().decode(), error.getvalue().decode())


def sentence(said: Said, code: int) -> str:
    """What a command that ended so said: one line on stderr, nothing on stdout."""
    assert (said.code, said.out) == (code, ""), said
    (line,) = said.error.splitlines()
    return line.removeprefix("trimtab: ")
