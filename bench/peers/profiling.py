"""Where our gateway spends its CPU under load: py-spy looks at it from outside; without it, cProfile in a run of its own."""

from __future__ import annotations

import io
import pstats
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from bench.peers.contestants import OURS, PEERS, Absent, Running, free_port
from bench.peers.load import Plan
from bench.peers.rounds import loaded

SECONDS, TOP, PER_S = 10.0, 25, 200
PY_SPY = PEERS / "bin" / "py-spy"


def profile(upstream: int, on: tuple[int | None, int | None]) -> str:
    """The functions of ours that take most, as text. `on`: the core of ours, and that of the load. Raises Absent."""
    with tempfile.TemporaryDirectory() as name:
        return (_from_outside if PY_SPY.exists() else _from_inside)(upstream, Path(name), on)


def _from_outside(upstream: int, folder: Path, on: tuple[int | None, int | None]) -> str:
    port, stacks = free_port(), folder / "stacks"
    ours = Running(OURS.start(port, upstream, folder), port, folder, on[0])
    try:
        ours.wait_ready()
        command = [
            str(PY_SPY),
            "record",
            "--pid",
            str(ours.process.pid),
            "--duration",
            str(int(SECONDS)),
            "--rate",
            str(PER_S),
        ]
        spy = subprocess.Popen(  # --gil: who waits is not counted; nor is what runs without it, waits for the disk above all
            [*command, "--gil", "--format", "raw", "--output", str(stacks)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        counted, _ = loaded(Plan(port, SECONDS + 2, headers=ours.headers), on[1], lambda: None)
        said = spy.communicate(timeout=60)[1]
        if not stacks.exists():
            raise Absent(f"py-spy could not look at it: {said[-300:]}")
    finally:
        ours.close()
    return f"{counted.answers:,} answers, plain; py-spy at {PER_S} a second, whoever holds the interpreter\n{top(stacks.read_text().splitlines())}"


def top(stacks: Iterable[str], most: int = TOP) -> str:
    """The functions of folded stacks (`a;b;c 7`) by their own share, beside the share of what they call too."""
    own, whole = Counter[str](), Counter[str]()
    for line in stacks:
        stack, _, count = line.rpartition(" ")
        frames = [frame.rsplit(":", 1)[0] + ")" if ":" in frame else frame for frame in stack.split(";")]
        own[frames[-1]] += int(count)
        whole.update(dict.fromkeys(frames, int(count)))
    total = max(1, own.total())
    lines = [f"{100 * n / total:6.1f}% {100 * whole[name] / total:6.1f}%  {name}" for name, n in own.most_common(most)]
    return "\n".join(["    own   whole", *lines])


def _from_inside(upstream: int, folder: Path, on: tuple[int | None, int | None]) -> str:
    port, file = free_port(), folder / "profile"
    start = OURS.start(port, upstream, folder)
    place = start.command.index("-m")
    start.command[place:place] = ["-m", "cProfile", "-o", str(file)]
    ours = Running(start, port, folder, on[0])
    try:
        ours.wait_ready()
        counted, _ = loaded(Plan(port, SECONDS, headers=ours.headers), on[1], lambda: None)
    finally:
        ours.close()
    told = io.StringIO()
    pstats.Stats(str(file), stream=told).sort_stats("tottime").print_stats(TOP)
    return f"{counted.answers:,} answers, plain; cProfile, of the event loop's thread (py-spy would slow it less: make peers)\n{told.getvalue()}"
