"""What every command shares: --state, --config and --json, exit codes, and errors as one sentence without a traceback."""

from __future__ import annotations

import functools
import json
import os
import sqlite3
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar, cast

import click
from rich.console import Console, ConsoleDimensions
from rich.text import Text

from deploy.control.store import Control, open_control, read_control
from deploy.errors import Failed, Refused
from deploy.parts import open_log, read_log
from deploy.settings import Settings, load_settings
from deploy.state import State, find_state, open_state
from deploy.training.base import with_noted_base
from feedback.clock import Clock, SystemClock
from feedback.dataset.snapshot import SnapshotError
from feedback.durable import is_full
from feedback.facts.reader import FactsDamaged
from feedback.masking import masked, masked_within
from streams.log import Log

P = ParamSpec("P")
R = TypeVar("R")

CONTROL_URL = "TRIMTAB_CONTROL__URL"

LIMIT = click.IntRange(1, 1_000_000)
"""How much of a list may be asked for at once; a database knows no number of any length."""

DONE, FAILED, USAGE, REFUSED = 0, 1, 2, 3

FULL = "the disk is full: free some space, then run the same command again; nothing done so far is lost"

WIDE = 10_000


class _Careful(Console):
    """Shows no password of an address, whoever prints it, and cuts nothing where nobody looks: a pipe's lines have any length."""

    def __init__(self, **options: Any) -> None:
        super().__init__(highlight=False, **options)
        self._width = None  # COLUMNS is what it is when something is printed

    def render_str(self, text: str, **options: Any) -> Text:
        return super().render_str(masked(text), **options)

    @property
    def size(self) -> ConsoleDimensions:
        found = super().size
        return found if self.is_terminal or self._width is not None else ConsoleDimensions(WIDE, found.height)

    @size.setter
    def size(self, size: tuple[int, int]) -> None:
        self._width, self._height = size


stdout = _Careful(soft_wrap=False)
stderr = _Careful(stderr=True)


@dataclass(frozen=True)
class Context:
    """Where a command works and how it answers."""

    state_path: Path
    config_path: Path | None
    as_json: bool
    looks: bool = False
    """The command only looks: nothing is made or changed."""
    decides: bool = False
    """The command decides about what is there already."""

    @cached_property
    def clock(self) -> Clock:
        return SystemClock()

    @cached_property
    def state(self) -> State:
        if self.looks:
            return find_state(self.state_path)
        if self.decides and not os.environ.get(CONTROL_URL):
            find_state(self.state_path)  # a halt of a service that is not here would be told and halt nothing
        return open_state(self.state_path)

    @cached_property
    def control(self) -> Control:
        """The control database; it opens beside a broken trimtab.toml too, so that `halt` always works."""
        where = os.environ.get(CONTROL_URL) or self.state.control
        return read_control(where) if self.looks else open_control(where)

    @cached_property
    def log(self) -> Log:
        """The log, with all its topics; for who only looks as it is, on a cluster from anywhere."""
        if not self.looks:
            return open_log(self.state, self.settings, self.clock)
        state = State(self.state_path) if self.settings.broker.on_kafka else self.state
        return read_log(state, self.settings, self.clock)

    @cached_property
    def configured(self) -> Settings:
        """As trimtab.toml and the environment have them."""
        return load_settings(self.config_path)

    @cached_property
    def settings(self) -> Settings:
        """The same, with the base that this state directory rests on where they name none."""
        return with_noted_base(self.configured, self.state_path)


def pass_context(
    with_json: bool = True, looks: bool = False, decides: bool = False
) -> Callable[[Callable[Concatenate[Context, P], R]], Callable[P, R]]:
    """Give a command its Context as first argument, from --state, --config and (unless told otherwise) --json.

    `looks`: the command only looks, and whatever it opens is opened so. `decides`: it refuses where there is no state directory yet.
    """

    def decorate(function: Callable[Concatenate[Context, P], R]) -> Callable[P, R]:
        @click.option(
            "--state",
            "state_path",
            type=click.Path(path_type=Path, file_okay=False),
            default=Path(".trimtab"),
            envvar="TRIMTAB_STATE",
            show_envvar=True,
            show_default=True,
            help="State directory.",
        )
        @click.option(
            "--config",
            "config_path",
            type=click.Path(path_type=Path, dir_okay=False),
            envvar="TRIMTAB_CONFIG",
            show_envvar=True,
            help="Configuration file [default: trimtab.toml where there is one].",
        )
        @functools.wraps(function)
        def wrapper(*args: Any, state_path: Path, config_path: Path | None, **kwargs: Any) -> R:
            context = Context(state_path, config_path, kwargs.pop("as_json", False), looks, decides)
            return function(context, *args, **kwargs)

        if with_json:
            wrapper = click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")(wrapper)
        return cast(Callable[P, R], wrapper)

    return decorate


def _told(value: object) -> str:
    """What JSON has no value for, in words."""
    return masked(str(value))


def print_json(document: object) -> None:
    """One JSON document on stdout, readable by people too; half a character (a lone surrogate) is escaped, as JSON has it."""
    text = json.dumps(masked_within(document), ensure_ascii=False, indent=2, default=_told)
    click.echo(text.encode("utf-8", "backslashreplace").decode())


def exit_code_of(error: BaseException) -> tuple[int, str] | None:
    """Exit code and sentence for an error that a person can do something about; None for a fault of ours."""
    match error:
        case Refused():
            return REFUSED, str(error)
        case Failed() | FactsDamaged() | SnapshotError():
            return FAILED, str(error)
        case _ if is_full(error):
            return FAILED, FULL
        case OSError() if error.filename is not None:
            return FAILED, f"{error.filename}: {error.strerror}"
        case sqlite3.OperationalError() if "readonly" in str(error) or "unable to open" in str(error):
            return FAILED, f"the state directory can't be written ({error}): check its owner and permissions"
    return None


def run(command: Callable[[], object], as_json: bool = False) -> int:
    """Run a click command and turn how it ended into an exit code; expected errors become one sentence on stderr, or where
    JSON is asked for a document on stdout: `{"error": {"message": …, "exit_code": …}}`."""

    def failed(code: int, sentence: str, prefix: str = "trimtab: ") -> int:
        if as_json:
            print_json({"error": {"message": sentence, "exit_code": code}})
        else:
            stderr.print(prefix + sentence, markup=False, soft_wrap=True)
        return code

    try:
        result = command()
        return result if isinstance(result, int) else DONE
    except click.exceptions.Exit as error:
        return error.exit_code
    except click.ClickException as error:
        if as_json:
            return failed(error.exit_code, error.format_message())
        error.message = masked(error.message)
        error.show(sys.stderr)
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        return failed(FAILED, "stopped", "")
    except BrokenPipeError:
        return DONE
    except Exception as error:
        known = exit_code_of(error)
        if known is None:
            raise
        return failed(*known)
