"""Run seeds: python -m tests.simulator --seeds 20000, or one again with what happened in it: --seed 17."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor

from rich.console import Console
from rich.progress import Progress

from tests.simulator import disk, simulation

CHUNK = 50
ENOUGH = 10
"""Failures after which no more seeds are begun: a world that goes wrong takes a hundred times as long."""
DISK_EVERY = 4


def chunk(first: int) -> list[tuple[int, str]]:
    """The seeds of one chunk at which something was wrong."""
    return [(seed, wrong) for seed in range(first, first + CHUNK) if (wrong := simulate(seed)) is not None]


def simulate(seed: int, tell: Callable[[str], object] = lambda line: None) -> str | None:
    """One seed of the workers' world; every fourth is one of sealing's too."""
    return simulation.simulate(seed, tell) or (disk.simulate(seed, tell) if seed % DISK_EVERY == 0 else None)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3_000)
    parser.add_argument("--seed", type=int, help="only this one, and tell what happens")
    given = parser.parse_args()
    if (
        os.environ.get("PYTHONHASHSEED") != "0"
    ):  # sets are walked in the order of hashes: a seed must mean the same again
        os.execve(
            sys.executable,
            [sys.executable, "-m", "tests.simulator", *sys.argv[1:]],
            {**os.environ, "PYTHONHASHSEED": "0"},
        )
    if given.seed is not None:
        wrong = simulate(given.seed, tell=print)
        print(f"seed {given.seed}: {wrong or 'nothing is wrong'}")
        return 1 if wrong else 0
    started, done, found = time.perf_counter(), 0, list[tuple[int, str]]()
    with ProcessPoolExecutor() as pool, Progress(console=Console(stderr=True)) as told:
        task = told.add_task("seeds", total=given.seeds)
        for wrong_ones in pool.map(chunk, range(0, given.seeds, CHUNK)):
            done += CHUNK
            found += wrong_ones
            told.advance(task, CHUNK)
            if len(found) >= ENOUGH:
                pool.shutdown(wait=False, cancel_futures=True)
                break
    took_s = time.perf_counter() - started
    for seed, wrong in found[:ENOUGH]:
        print(f"seed {seed}: {wrong}")
    print(f"{done} seeds, {len(found)} failures, {took_s:.0f} s ({done / took_s:.0f} seeds/s)")
    if found:
        print(f"`python -m tests.simulator --seed {found[0][0]}` tells what happens")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
