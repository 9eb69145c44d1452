"""One key at a time: on a terminal as it is pressed, without Enter; elsewhere a line of standard input for each."""

from __future__ import annotations

import os
import signal
import sys
import termios
import threading
import tty
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Protocol

CHUNK, END, NO_KEY = 1_024, "\x04", "?"


class Keyboard(Protocol):
    """Where keys come from."""

    def key(self) -> str | None:
        """The next key; None at the end. Raises KeyboardInterrupt on Ctrl-C."""

    def line(self) -> str:
        """What is typed up to Enter."""

    def forget(self) -> None:
        """What was typed until now is no answer to what is shown next."""


class Lines:
    """A line for each key, as scripts write it."""

    def key(self) -> str | None:
        if not (line := sys.stdin.readline()):
            return None
        key = line.strip()
        return key if len(key) <= 1 else NO_KEY  # "second" is no skip

    def line(self) -> str:
        return sys.stdin.readline().strip()

    def forget(self) -> None:
        """A script means all that it writes."""


class Terminal:
    """Keys of a terminal in cbreak mode."""

    def __init__(self, fd: int, before: list[Any]) -> None:
        self._fd, self._before = fd, before

    def key(self) -> str | None:
        typed = self._read(CHUNK)
        if not typed or typed == END:
            return None
        return typed[0] if len(set(typed)) == 1 else NO_KEY  # an arrow's sequence, or what was pasted

    def line(self) -> str:
        termios.tcsetattr(self._fd, termios.TCSADRAIN, self._before)
        try:
            return self._read(4 * CHUNK).strip()
        finally:
            tty.setcbreak(self._fd)

    def forget(self) -> None:
        termios.tcflush(self._fd, termios.TCIFLUSH)

    def _read(self, size: int) -> str:
        try:
            return os.read(self._fd, size).decode(errors="replace")
        except OSError:  # the terminal is gone
            return ""


@contextmanager
def keyboard() -> Iterator[Keyboard]:
    """Keys from standard input. A terminal is as before afterwards, however it ends; to be stopped is like Ctrl-C."""
    if not sys.stdin.isatty():
        yield Lines()
        return
    fd = sys.stdin.fileno()
    before = termios.tcgetattr(fd)
    handlers = dict[int, Any]()
    if threading.current_thread() is threading.main_thread():
        ends = dict.fromkeys((signal.SIGINT, signal.SIGTERM, signal.SIGHUP), signal.default_int_handler)
        goes_on = {signal.SIGCONT: lambda *_: tty.setcbreak(fd)}  # the shell has made the terminal its own meanwhile
        handlers = {number: signal.signal(number, handler) for number, handler in (ends | goes_on).items()}
    try:
        tty.setcbreak(fd)
        yield Terminal(fd, before)
    finally:
        with suppress(termios.error):  # the terminal is gone
            termios.tcsetattr(fd, termios.TCSADRAIN, before)
        for number, handler in handlers.items():
            signal.signal(number, handler)
