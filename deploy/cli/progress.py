"""Progress of anything that takes more than two seconds: bars on a terminal, else one plain line now and then.

Each says the step, how far it is, how fast it goes and how long it has left; of a training also its phase of how many and,
where an earlier training told how long its phases took, how long is left in all.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskID, TextColumn
from rich.text import Text

from feedback.clock import Clock
from models.smollm2 import FETCHING

QUIET_S = 2.0
LINE_EVERY_S = 10.0
LOOKS_PER_S = 2
"""How often a bar is drawn anew: seldom, and only what stands in it changes."""

PHASES = {
    "base": "base",
    "reward": "reward model",
    "samples": "samples",
    "policy": "policy",
    "evaluate": "evaluation",
}
"""A training's phases in order, as a person is told them."""

_MB = {"reading": 1e-6, FETCHING: 1.048576}
"""Steps that are told in bytes or MiB, and what makes megabytes of those."""

_NAME_WIDTH = 20


class Pace:
    """How fast one step goes: from the first thing that was heard of its work on. What came before is loading, and after a
    kill the first thing heard is the checkpoint that it goes on from."""

    def __init__(self) -> None:
        self._first: tuple[float, int] | None = None
        self._last = (0.0, 0)
        self._total = 0

    def hear(self, done: int, total: int, now_s: float) -> None:
        """So much is done of so much; total 0: it has begun, and nothing more is known."""
        self._total = total
        if self._first is None and total:
            self._first = (now_s, done)
        self._last = (now_s, done)

    @property
    def per_s(self) -> float | None:
        """Units a second; None before anything can be said of it."""
        if self._first is None:
            return None
        seconds, units = self._last[0] - self._first[0], self._last[1] - self._first[1]
        return units / seconds if seconds > 0 and units > 0 else None

    def left_s(self, now_s: float) -> float | None:
        """Until this step is done, counting down between two things that are heard; None before that can be said."""
        if self.per_s is None:
            return None
        return max(0.0, (self._total - self._last[1]) / self.per_s - (now_s - self._last[0]))

    @property
    def done(self) -> bool:
        return 0 < self._total <= self._last[1]

    def told(self, step: str) -> str:
        """How far it is, and how fast: `12 of 38 steps, 4.2 s each`."""
        done, total = self._last[1], self._total
        if not total:
            return "begins"
        if (scale := _MB.get(step)) is not None:
            if step == FETCHING and self.done:
                return f"{total * scale:.1f} MB are here, converting"
            speed = f", {self.per_s * scale:.1f} MB/s" if self.per_s and not self.done else ""
            return f"{done * scale:.1f} of {total * scale:.1f} MB{speed}"
        unit = " steps" if step in PHASES else ""
        return f"{done:,} of {total:,}{unit}" + (f", {_speed(self.per_s)}" if self.per_s and not self.done else "")


def left_in_all(phase: str, left_s: float | None, took_s: float, earlier: Mapping[str, float]) -> float | None:
    """Seconds that a training has left: of this phase, which took so long already, and what the next ones took before."""
    if phase not in PHASES or not earlier.keys() >= PHASES.keys():
        return None
    phases = list(PHASES)
    here = left_s if left_s is not None else max(0.0, earlier[phase] - took_s)
    return here + sum(earlier[later] for later in phases[phases.index(phase) + 1 :])


def _speed(per_s: float) -> str:
    return f"{per_s:,.1f}/s" if per_s >= 1 else f"{1 / per_s:.1f} s each"


def span(seconds: float) -> str:
    """Minutes and seconds: `2:07`.

    >>> span(127.4), span(5), span(4_000)
    ('2:07', '0:05', '1:06:40')
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


class Steps:
    """`with Steps(console) as steps: steps.at("training", 10, 450)`: whichever step is told of is the current one."""

    def __init__(self, console: Console, clock: Clock) -> None:
        self._console, self._clock = console, clock
        self._started = self._clock.monotonic_s()
        self._said = self._clock.monotonic_s() - LINE_EVERY_S + QUIET_S
        self._tasks: dict[str, TaskID] = {}
        self._paces: dict[str, Pace] = {}
        self._began: dict[str, float] = {}
        self._ended: dict[str, float] = {}
        self._current = ""
        self._earlier: Mapping[str, float] = {}
        self._bars: Progress | None = None
        if console.is_terminal:
            self._bars = Progress(
                TextColumn(f"{{task.description:<{_NAME_WIDTH}}}"),
                BarColumn(bar_width=8),
                _Says(self),
                console=console,
                refresh_per_second=LOOKS_PER_S,
                get_time=clock.monotonic_s,
                transient=True,
            )

    def __enter__(self) -> Steps:
        if self._bars is not None:
            self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bars is not None:
            self._bars.stop()

    @contextmanager
    def aside(self) -> Iterator[None]:
        """While something is asked of whoever sits there, no bar moves."""
        if self._bars is not None:
            self._bars.stop()
        yield
        if self._bars is not None:
            self._bars.start()

    def compare(self, earlier: Mapping[str, float]) -> None:
        """How many seconds each phase took in an earlier training like the one that comes."""
        self._earlier = earlier if earlier.keys() >= PHASES.keys() else {}

    def at(self, step: str, done: int, total: int) -> None:
        """`done` of `total` units of this step are done; total 0: it has begun, and no more is known."""
        now = self._clock.monotonic_s()
        if step != self._current:
            self._ended |= {self._current: now}
            self._ended.pop(step, None)
            self._current = step
        self._began.setdefault(step, now)
        self._paces.setdefault(step, Pace()).hear(done, total, now)
        if self._bars is not None:
            if step not in self._tasks:
                self._tasks[step] = self._bars.add_task(named(step), step=step)
            self._bars.update(self._tasks[step], completed=done, total=max(1, total))  # without one the bar would pulse
        elif now - self._said >= LINE_EVERY_S:
            self._said = now
            line = f"{now - self._started:4.0f} s  {named(step)}: {self.told(step)}"
            self._console.print(line, highlight=False, soft_wrap=True)

    def told(self, step: str) -> str:
        """How far a step is, how fast it goes, and how long is left; of one that is over how long it took."""
        now, pace = self._clock.monotonic_s(), self._paces[step]
        if (ended := self._ended.get(step)) is not None:
            return span(ended - self._began[step])
        parts, left = [pace.told(step)], pace.left_s(now)
        if left is not None and not pace.done:
            parts.append(f"{span(left)} left")
        if (in_all := self._left_in_all(step, left)) is not None:
            parts.append(f"all ~{span(in_all)}")
        return ", ".join(parts)

    def _left_in_all(self, step: str, left: float | None) -> float | None:
        """Of a training: what this phase has left, and what the next ones took before."""
        return left_in_all(step, left, self._clock.monotonic_s() - self._began[step], self._earlier)


class _Says(ProgressColumn):
    """What is told of a step, at this moment."""

    def __init__(self, steps: Steps) -> None:
        super().__init__()
        self._steps = steps

    def render(self, task: Task) -> Text:
        return Text(self._steps.told(task.fields["step"]), no_wrap=True, overflow="ellipsis")


def named(step: str) -> str:
    """What a person is told that it is, a training's phase with its number."""
    if step in PHASES:
        return f"{list(PHASES).index(step) + 1}/{len(PHASES)} {PHASES[step]}"
    return step.partition(",")[0]
