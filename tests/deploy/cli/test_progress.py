"""Progress that is not on a terminal: silence for what is quick, then a line now and then."""

from __future__ import annotations

from contextlib import suppress
from io import StringIO

from rich.console import Console

from deploy.cli.progress import LINE_EVERY_S, QUIET_S, Steps
from tests.fakes import ManualClock


def test_what_is_quick_says_nothing_and_what_is_long_a_line_now_and_then() -> None:
    clock, said = ManualClock(), StringIO()
    with Steps(Console(file=said, width=80), clock) as steps:
        steps.at("reading", 1, 4_000)
        clock.set_forward(QUIET_S - 0.1)
        steps.at("reading", 1_000, 4_000)
        assert said.getvalue() == ""
        clock.set_forward(0.1)
        steps.at("reading", 2_000, 4_000)
        for _ in range(100):
            clock.set_forward(LINE_EVERY_S / 50)
            steps.at("training", 3, 450)
    assert said.getvalue().splitlines() == [
        "   2 s  reading: 2,000 of 4,000",
        "  12 s  training: 3 of 450",
        "  22 s  training: 3 of 450",
    ]


def test_on_a_terminal_the_bars_are_gone_when_it_fails_and_the_cursor_is_back() -> None:
    said = StringIO()
    console = Console(file=said, force_terminal=True, width=80)
    with suppress(RuntimeError), Steps(console, ManualClock()) as steps:
        steps.at("reading", 1, 2)
        steps.at("training", 1, 450)
        steps.at("reading", 2, 2)
        raise RuntimeError
    hide, show = "\x1b[?25l", "\x1b[?25h"
    assert said.getvalue().rfind(show) > said.getvalue().rfind(hide) >= 0
