"""Can the gate be trusted? Thousands of simulated rollouts through the functions that decide real ones.

    python bench/gates.py [--rollouts 5000] [--only WORDS] [--processes 2] [--json FILE]

In each scenario a public of users with tempers of their own, weekly drift, a step, late and doubled news is served by two arms;
the service's closing, plan and decisions look at every unit that closes. Printed is how often each plan rolled back, held or promoted,
beside what may happen at most, and what others' published rules would have done with the same units: a test at a fixed horizon, looked
at once and looked at always, thresholds per hour as canary controllers have them, and GrowthBook's "do no harm".
Last it is counted how often forecasts came true.
Intervals are Wilson's at 95%. `make gates` runs all of it.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import zlib
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from bench.rollouts import rivals  # noqa: E402
from bench.rollouts.forecasts import FORECASTS, Came, forecasts  # noqa: E402
from bench.rollouts.scenarios import Limit, Scenario, scenarios  # noqa: E402
from bench.rollouts.shadows import SHADOWS, Shadow, shadow_share  # noqa: E402
from bench.rollouts.world import World  # noqa: E402
from feedback.statistics.intervals import wilson  # noqa: E402
from feedback.statistics.plan import DAY_US, Plan  # noqa: E402
from feedback.statistics.replaying import Units, replay  # noqa: E402
from feedback.statistics.tallies import Ints  # noqa: E402

CHUNK = 50
SHADOW_CHUNK = 250
"""Pair by pair: the more at a time the faster."""
FORECAST_CHUNKS = 6
"""So many of them are enough to see whether forecasts come true."""


@dataclass(frozen=True)
class Ended:
    """What a rollout came to, at how many units, and the day, from 1, at whose end that many had closed at the longest age."""

    action: str
    unit: int
    day: int


def simulate(scenario: Scenario, chunk: int) -> dict[str, list[Ended]]:
    """What a chunk of rollouts came to by each rule; seeded by name and number."""
    if scenario.twin is not None:
        return {"Trimtab": _differing(scenario, scenario.twin, chunk)}
    random = _random(scenario, chunk)
    results: dict[str, list[Ended]] = {"Trimtab": []}
    for attempt in range(1, scenario.attempts + 1):
        plan = replace(scenario.plan, attempt=attempt)
        came: list[Ended] = []
        for units in scenario.world.rollouts(plan, CHUNK, random):
            came += _ended(plan, units, *replay(plan, units))
            if scenario.rivals:
                for rule, (action, at) in _rivals(scenario, units).items():
                    results.setdefault(rule, []).extend(_ended(plan, units, action, at))
        before = results["Trimtab"] or came
        results["Trimtab"] = [
            one if one.action == "promote" else other for one, other in zip(before, came, strict=True)
        ]
    return results


def _random(scenario: Scenario, chunk: int) -> np.random.Generator:
    return np.random.default_rng([zlib.crc32(scenario.name.encode()), chunk])


def _ended(plan: Plan, units: Units, action: ArrayLike, at: ArrayLike) -> list[Ended]:
    at = np.asarray(at)
    closed_us = units.opened_us[np.minimum(at, len(units.opened_us) - 1)] + plan.ages_us[-1] + plan.grace_us
    columns = np.asarray(action).tolist(), at.tolist(), (closed_us // DAY_US + 1).tolist()
    return [Ended(*row) for row in zip(*columns, strict=True)]


def _differing(scenario: Scenario, twin: World, chunk: int) -> list[Ended]:
    """Of a chunk of rollouts that are the same but for what may change nothing: "other" where action or unit differ."""
    one, other = (
        [
            ended
            for units in world.rollouts(scenario.plan, CHUNK, _random(scenario, chunk))
            for ended in _ended(scenario.plan, units, *replay(scenario.plan, units))
        ]
        for world in (scenario.world, twin)
    )
    return [replace(left, action="same" if left == right else "other") for left, right in zip(one, other, strict=True)]


def _rivals(scenario: Scenario, units: Units) -> dict[str, tuple[NDArray[np.str_], Ints]]:
    """By rule, how each rollout ends and at which unit."""
    metric = scenario.plan.metrics[0].name
    watch = next(
        watch for watch in scenario.plan.watches("guardrail")[::-1] if watch.metric == metric and watch.slice is None
    )
    arm, y = np.asarray(units.arm), np.asarray(units.y[watch.name])
    z, many = rivals.running_z(arm, y), arm.shape[1]
    rolled, shipped = rivals.growthbook(units.opened_us, z, scenario.world.days)
    by_rule = {
        "one look, at the end": rivals.once(z),
        "the same, always looked at": rivals.always(z),
        "thresholds per hour": rivals.thresholds(units.opened_us, arm, y),
        "GrowthBook": rolled,
    }
    ends = {"GrowthBook": shipped}
    return {
        name: (np.where(at < many, "rollback", "promote"), np.where(at < many, at, ends.get(name, many - 1)))
        for name, at in by_rule.items()
    }


def counted(limit: Limit, came: Sequence[Ended]) -> int:
    """How many rollouts ended so, in time."""
    return sum(one.action == limit.action and (limit.by_day is None or one.day <= limit.by_day) for one in came)


def held(limit: Limit, count: int, many: int) -> bool:
    """Whether the limit was kept; a limit for 5,000 rollouts is scaled to however many there were."""
    if limit.at_most is not None:
        return count <= round(limit.at_most * many / 5_000 + 0.5 * (limit.at_most > 0))
    assert limit.at_least is not None  # one of the two
    return count >= limit.at_least * many


def show(scenario: Scenario, results: Mapping[str, Sequence[Ended]], table: Table) -> dict[str, Any]:
    """A row for each rule and limit; what is kept of it as JSON."""
    document: dict[str, Any] = {"scenario": scenario.name}
    for rule, came in results.items():
        for limit in scenario.limits:
            if rule != "Trimtab" and limit.action == "hold":
                continue
            count, many = counted(limit, came), len(came)
            lower, upper = wilson(count / many, many, 0.975)
            wanted = (
                f"at most {limit.at_most} of 5,000" if limit.at_most is not None else f"at least {limit.at_least:.0%}"
            )
            by = f" by day {limit.by_day}" if limit.by_day else ""
            units = sorted(one.unit for one in came if one.action == limit.action)
            typical = f"{units[len(units) // 2]:,}" if units else "-"
            verdict = ("yes" if held(limit, count, many) else "NO") if rule == "Trimtab" else ""
            table.add_row(
                scenario.name if rule == "Trimtab" else "", rule, f"{limit.action}{by}", f"{count} of {many}",
                f"{count / many:.2%} [{lower:.2%}, {upper:.2%}]", typical, wanted if rule == "Trimtab" else "", verdict,
            )  # fmt: skip
            document[f"{rule}: {limit.action}{by}"] = {
                "count": count,
                "of": many,
                "median_units": units[len(units) // 2] if units else None,
            }
            if limit.at_least and rule == "Trimtab" and units:
                eighty = units[min(len(units) - 1, int(0.8 * many))] if len(units) >= 0.8 * many else None
                document["units for 80%"] = eighty
    return document


def show_shadow(shadow: Shadow, passed: int, many: int, table: Table) -> dict[str, Any]:
    """A row; what is kept of it as JSON."""
    lower, upper = wilson(passed / many, many, 0.975)
    wanted = f"at least {shadow.at_least:.0%}" if shadow.at_least else f"at most {shadow.at_most:.0%}"
    kept = passed >= shadow.at_least * many if shadow.at_least else lower <= (shadow.at_most or 0)
    table.add_row(
        f"{shadow.win:.2f}", shadow.judge, f"{shadow.labels:,}", f"{passed} of {many}",
        f"{passed / many:.2%} [{lower:.2%}, {upper:.2%}]", wanted, "yes" if kept else "NO",
    )  # fmt: skip
    return {"scenario": shadow.name, "passed": passed, "of": many}


FORECAST_COLUMNS = (
    "within the range said half-way",
    "in all at most twice so many units, or half",
    "the same of those still to come",
    "by the best forecast, knowing the true rates",
    "the same of the day said beforehand",
)


def show_forecasts(name: str, told: Sequence[Came], table: Table) -> dict[str, Any]:
    """A row for a public; what is kept of it as JSON."""
    true = [
        sum(column)
        for column in zip(
            *(
                (c.within_range, c.within_twice, c.more_within_twice, c.best_within_twice, c.day_within_twice)
                for c in told
            ),
            strict=True,
        )
    ]
    table.add_row(name, f"{len(told)}", *(f"{count / len(told):.0%}" for count in true))
    return {"scenario": f"forecast: {name}", "of": len(told)} | dict(zip(FORECAST_COLUMNS, true, strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rollouts", type=int, default=5_000, help="of each scenario")
    parser.add_argument("--only", default="", help="scenarios whose name has these words")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--json", type=Path, help="write the figures here too")
    asked = parser.parse_args()
    chosen = [scenario for scenario in scenarios() if asked.only in scenario.name]
    chunks = -(-asked.rollouts // CHUNK)
    table = Table(
        "scenario", "rule", "ends with", "rollouts", "share [95%]", "units, median", "wanted", "kept", title="Rollouts"
    )
    documents, began = [], time.monotonic()
    with ProcessPoolExecutor(asked.processes) as pool, Progress(console=Console(stderr=True)) as progress:
        for scenario in chosen:
            task = progress.add_task(scenario.name, total=chunks)
            results: dict[str, list[Ended]] = {}
            for came in pool.map(partial(simulate, scenario), range(chunks)):
                for rule, ended in came.items():
                    results.setdefault(rule, []).extend(ended)
                progress.advance(task)
            documents.append(show(scenario, results, table))
        shadows = Table(
            "win rate", "judge", "labels, at most", "passed", "share [95%]", "wanted", "kept", title="Shadow pairs"
        )
        for shadow in SHADOWS if not asked.only or asked.only in "shadow" else ():
            large = range(-(-asked.rollouts // SHADOW_CHUNK))
            task = progress.add_task(shadow.name, total=len(large))
            passed = sum(
                progress.advance(task) or count
                for count in pool.map(partial(shadow_share, shadow, SHADOW_CHUNK), large)
            )
            documents.append(show_shadow(shadow, passed, len(large) * SHADOW_CHUNK, shadows))
        said = Table(
            "public",
            "rollouts",
            *FORECAST_COLUMNS,
            title="Forecasts that came true: 80% wanted of the range, and of what is within the best forecast's reach",
        )
        for public in FORECASTS if not asked.only or asked.only in "forecast" else ():
            few = range(min(chunks, FORECAST_CHUNKS))
            told = [came for some in pool.map(partial(forecasts, public, CHUNK), few) for came in some]
            documents.append(show_forecasts(public.name, told, said))
    console = Console(width=None if sys.stdout.isatty() else 200)
    console.print(table)
    for other in (shadows, said):
        if other.row_count:
            console.print(other)
    console.print(f"{time.monotonic() - began:.0f} s on {asked.processes} processes")
    if asked.json:
        asked.json.write_text(json.dumps(documents, indent=2))


if __name__ == "__main__":
    main()
