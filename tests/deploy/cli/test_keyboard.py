"""One key at a time from a real terminal, which is as before afterwards."""

from __future__ import annotations

import io
import os
import pty
import select
import signal
import sys
import termios
from collections.abc import Iterator
from contextlib import suppress

import pytest

from deploy.cli.keyboard import NO_KEY, Keyboard, keyboard
from tests.fakes import DEADLINE_S


@pytest.fixture
def ours(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """Our end of the terminal that is standard input."""
    ours, theirs = pty.openpty()
    with os.fdopen(theirs, "r") as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        yield ours
    with suppress(OSError):
        os.close(ours)


def pressed(ours: int, keys: str) -> None:
    """Press them; they are there when this returns."""
    os.write(ours, keys.encode())
    ready, _, _ = select.select([sys.stdin], [], [], DEADLINE_S)
    assert ready


def key(keys: Keyboard, ours: int, what: str) -> str | None:
    pressed(ours, what)
    return keys.key()


def test_a_key_counts_without_enter_and_what_is_no_key_does_not(ours: int) -> None:
    with keyboard() as keys:
        assert [key(keys, ours, one) for one in ("1", "11", "q", "é")] == ["1", "1", "q", "é"]
        assert [key(keys, ours, one) for one in ("\x1b[1~", "12", "1 is better")] == [NO_KEY] * 3
        assert key(keys, ours, "\x04") is None


def test_what_was_typed_before_is_forgotten(ours: int) -> None:
    with keyboard() as keys:
        pressed(ours, "1")
        keys.forget()
        assert key(keys, ours, "2") == "2"


def test_a_line_is_typed_up_to_enter_and_then_keys_count_again(ours: int) -> None:
    with keyboard() as keys:
        modes = termios.tcgetattr(ours)
        os.write(ours, "it ans\x7fswers, überall\n".encode())
        assert keys.line() in ("it answers, überall", "it ans\x7fswers, überall")  # the first, where Enter came late
        assert termios.tcgetattr(ours) == modes
        assert key(keys, ours, "0") == "0"


def test_a_terminal_that_is_gone_has_no_more_keys(ours: int) -> None:
    with keyboard() as keys:
        os.close(ours)
        assert keys.key() is None


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_however_it_ends_terminal_and_signals_are_as_before(ours: int, number: signal.Signals) -> None:
    modes, handler = termios.tcgetattr(ours), signal.getsignal(number)

    def stopped() -> None:
        with keyboard():
            assert termios.tcgetattr(ours) != modes
            signal.raise_signal(number)

    with pytest.raises(KeyboardInterrupt):
        stopped()
    assert (termios.tcgetattr(ours), signal.getsignal(number)) == (modes, handler)


def test_ctrl_c_counts_though_whoever_started_us_ignores_it(ours: int) -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with pytest.raises(KeyboardInterrupt), keyboard():
            signal.raise_signal(signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_who_comes_back_from_the_shell_presses_keys_as_before(ours: int) -> None:
    before = termios.tcgetattr(ours)
    with keyboard() as keys:
        modes = termios.tcgetattr(ours)
        termios.tcsetattr(ours, termios.TCSANOW, before)  # as a shell does while it is stopped
        signal.raise_signal(signal.SIGCONT)
        assert termios.tcgetattr(ours) == modes
        assert key(keys, ours, "1") == "1"


def test_elsewhere_a_line_is_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("1\n\n 2 \ne\nit answers \n0"))
    with keyboard() as keys:
        keys.forget()
        assert [keys.key() for _ in range(4)] == ["1", "", "2", "e"]
        assert keys.line() == "it answers"
        assert [keys.key() for _ in range(2)] == ["0", None]


def test_a_line_that_is_more_than_a_key_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("second\n10\n1 is better\nquit\n"))
    with keyboard() as keys:
        assert [keys.key() for _ in range(5)] == [NO_KEY] * 4 + [None]
