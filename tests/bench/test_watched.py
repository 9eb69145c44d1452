"""A loop that is watched: how long it was busy at a stretch."""

from __future__ import annotations

import json
from pathlib import Path

from bench.attack import Seen, row
from bench.watched import Watch, write
from tests.fakes import until


async def test_the_longest_stretch_is_told_once(tmp_path: Path) -> None:
    cpu_s = [0.0]
    beats = 0

    def clock() -> float:
        nonlocal beats
        beats += 1
        return cpu_s[0]

    async def beaten() -> None:
        seen = beats
        await until(lambda: beats > seen)

    watch = Watch(clock)
    for seconds in (0.5, 1.0, 0.25):
        cpu_s[0] += seconds
        await beaten()
    write(watch, tmp_path / "figures.json")
    assert json.loads((tmp_path / "figures.json").read_bytes())["stretch_ms"] == 1_000
    await beaten()
    assert watch.told()["stretch_ms"] == 0


def test_a_row_has_the_median_of_what_each_round_was() -> None:
    calm = Seen(slowest=20, median=10, stretch=1)
    rounds = [
        (calm, Seen(40, 20, 5), calm),
        (Seen(200, 100, 2), Seen(200, 50, 4), Seen(400, 100, 9)),
        (calm, Seen(60, 30, 9), Seen(10, 10, 1)),
    ]
    assert row(rounds) == [20, 60, 2, 1, 2, 1, 5]
