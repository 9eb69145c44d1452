"""Progress of anything that takes more than two seconds: bars on a terminal, else one plain line now and then."""

from __future__ import annotations

from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from feedback.clock import Clock

QUIET_S = 2.0
LINE_EVERY_S = 10.0


class Steps:
    """`with Steps(console) as steps: steps.at("training", 10, 450)`: whichever step is told of is the current one."""

    def __init__(self, console: Console, clock: Clock) -> None:
        self._console, self._clock = console, clock
        self._started = self._clock.monotonic_s()
        self._said = self._clock.monotonic_s() - LINE_EVERY_S + QUIET_S
        self._tasks: dict[str, TaskID] = {}
        self._bars: Progress | None = None
        if console.is_terminal:
            self._bars = Progress(
                TextColumn("{task.description:<24}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
                console=console,
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

    def at(self, step: str, done: int, total: int) -> None:
        """`done` of `total` units of this step are done."""
        if self._bars is not None:
            if step not in self._tasks:
                for task in self._tasks.values():
                    self._bars.stop_task(task)
                self._tasks[step] = self._bars.add_task(step, total=total)
            self._bars.update(self._tasks[step], completed=done, total=total)
        elif (now := self._clock.monotonic_s()) - self._said >= LINE_EVERY_S:
            self._said = now
            self._console.print(f"{now - self._started:4.0f} s  {step}: {done:,} of {total:,}", highlight=False)
