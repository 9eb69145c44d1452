"""Progress: silence for what is quick, then how far it is, how fast it goes and how long it has left."""

from __future__ import annotations

from contextlib import suppress
from io import StringIO

from rich.console import Console

from deploy.cli.progress import LINE_EVERY_S, PHASES, QUIET_S, Pace, Steps, span
from models.smollm2 import FETCHING
from tests.fakes import ManualClock


def test_what_is_quick_says_nothing_and_what_is_long_a_line_now_and_then() -> None:
    clock, said = ManualClock(), StringIO()
    with Steps(Console(file=said, width=80), clock) as steps:
        steps.at("taking in", 1, 4_000)
        clock.set_forward(QUIET_S - 0.1)
        steps.at("taking in", 1_000, 4_000)
        assert said.getvalue() == ""
        clock.set_forward(0.1)
        steps.at("taking in", 2_000, 4_000)
        for _ in range(100):
            clock.set_forward(LINE_EVERY_S / 50)
            steps.at("reward", 3, 450)
    assert said.getvalue().splitlines() == [
        "   2 s  taking in: 2,000 of 4,000, 999.5/s, 0:02 left",
        "  12 s  2/5 reward model: 3 of 450 steps",
        "  22 s  2/5 reward model: 3 of 450 steps",
    ]


def lines(*told: tuple[float, str, int, int], earlier: dict[str, float] | None = None) -> list[str]:
    """What is said where there is no terminal: each (seconds after the one before, step, done, total) is told."""
    clock, said = ManualClock(), StringIO()
    with Steps(Console(file=said, width=80), clock) as steps:
        steps.compare(earlier or {})
        for seconds, *rest in told:
            clock.set_forward(seconds)
            steps.at(*rest)  # type: ignore[arg-type]
    return [line.partition(" s  ")[2] for line in said.getvalue().splitlines()]


def test_a_phase_says_how_far_it_is_how_fast_it_goes_and_how_long_it_has_left() -> None:
    told = lines((10, "reward", 0, 0), (30, "reward", 2, 38), (42, "reward", 12, 38), (110, "reward", 38, 38))
    assert told == [
        "2/5 reward model: begins",
        "2/5 reward model: 2 of 38 steps",
        "2/5 reward model: 12 of 38 steps, 4.2 s each, 1:49 left",
        "2/5 reward model: 38 of 38 steps",
    ]


def test_a_download_is_told_in_megabytes() -> None:
    told = lines(
        (10, FETCHING, 10, 88), (10, FETCHING, 20, 88), (30, FETCHING, 88, 88), (10, "reading", 5_000_000, 20_000_000)
    )
    assert told == [
        "SmolLM2 (Apache-2.0): 10.5 of 92.3 MB",
        "SmolLM2 (Apache-2.0): 21.0 of 92.3 MB, 1.0 MB/s, 1:08 left",
        "SmolLM2 (Apache-2.0): 92.3 MB are here, converting",
        "reading: 5.0 of 20.0 MB",
    ]


def test_how_long_is_left_in_all_is_said_where_an_earlier_training_took_its_time() -> None:
    earlier = {phase: 60.0 * number for number, phase in enumerate(PHASES, 1)}
    told = lines((10, "policy", 0, 0), (20, "policy", 10, 30), (10, "policy", 20, 30), earlier=earlier)
    assert told == [
        "4/5 policy: begins, all ~9:00",
        "4/5 policy: 10 of 30 steps, all ~8:40",
        "4/5 policy: 20 of 30 steps, 1.0/s, 0:10 left, all ~5:10",
    ]
    assert "all ~" not in lines((10, "policy", 0, 0), earlier={"policy": 60.0})[0]


def test_a_training_that_goes_on_at_a_checkpoint_is_not_taken_for_a_fast_one() -> None:
    pace = Pace()
    for done, total, now_s in ((0, 0, 0.0), (400, 450, 20.0)):
        pace.hear(done, total, now_s)
        assert (pace.per_s, pace.left_s(now_s)) == (None, None)
    pace.hear(410, 450, 30.0)
    assert (pace.per_s, pace.left_s(30.0), pace.left_s(33.0), pace.left_s(99.0)) == (1.0, 40.0, 37.0, 0.0)


def test_long_spans_are_told_in_hours() -> None:
    assert [span(seconds) for seconds in (0, 59.6, 127, 4_000)] == ["0:00", "1:00", "2:07", "1:06:40"]


def test_on_a_terminal_every_step_has_one_line_that_fits_and_only_grows() -> None:
    clock, said = ManualClock(), StringIO()
    console = Console(file=said, force_terminal=True, width=80, legacy_windows=False)
    with Steps(console, clock) as steps:
        steps.compare(dict.fromkeys(PHASES, 100.0))
        for phase in PHASES:
            for done in range(0, 40, 10):
                clock.set_forward(41)
                steps.at(phase, done, 38)
        assert steps._bars is not None
        rendered = console.render_lines(steps._bars.get_renderable(), pad=False)
    texts = ["".join(segment.text for segment in line).rstrip() for line in rendered if line]
    texts = [text for text in texts if text]
    assert len(texts) == len(PHASES)
    assert all(len(text) <= 80 for text in texts)
    assert texts[0].endswith(" 2:44"), "over"
    assert texts[-1].endswith("30 of 38 steps, 4.1 s each, 0:33 left, all ~0:33")


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
