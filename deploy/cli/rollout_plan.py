"""`trimtab rollout plan`: beforehand, from the traffic that was seen, what a rollout can find within which time and what it can't."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import click
from rich.table import Table

from deploy.cli.common import Context, pass_context, print_json, stdout
from deploy.cli.groups import Group
from deploy.decisions.forecasting import SEEN_DAYS, forecast, traffic
from deploy.decisions.tallying import ENOUGH
from deploy.errors import Failed
from deploy.rules.plan import plan_of
from feedback.facts.reader import Facts
from feedback.records import Rating, Turn
from feedback.statistics.plan import DAY_US

MOST_PER_DAY = 1_000_000_000
ASSUMED = f"the rates are assumed: of fewer than {ENOUGH} users is it known what became of them"


@click.group(cls=Group)
def rollout() -> None:
    """What a rollout could find.

    \b
    Example:
      trimtab rollout plan
    """


@rollout.command("plan")
@click.option("--per-day", type=click.IntRange(1, MOST_PER_DAY), help="So many new users a day instead of those seen.")
@pass_context(looks=True)
def plan_(context: Context, per_day: int | None) -> None:
    """What harm a rollout by these settings would find, how soon, and how long a candidate that is as good takes to be shown so.

    By the users whom the gateways answered in the last 14 days and what became of them. Forecasts: of five rollouts four come to it
    by the day named (of twenty nineteen).

    \b
    Examples:
      trimtab rollout plan
      trimtab rollout plan --per-day 2000
    """
    plan = plan_of(context.settings.rollout, 1)
    if plan is None:
        raise Failed(
            "rollout.shares goes to everybody at once, so nobody is left to compare with: give it a share below 1"
        )
    now_us = context.clock.now_us()
    facts = Facts(context.state.facts)

    def received() -> Iterator[tuple[int, Turn | Rating]]:
        return ((at_us, event) for _, at_us, event in facts.received_since(now_us - SEEN_DAYS * DAY_US))

    seen = traffic(received, plan.ages_us[-1], now_us)
    if per_day is not None:
        seen = replace(seen, days=1.0, users=per_day)
    rows = forecast(plan, seen)
    if context.as_json:
        print_json(
            {"users_per_day": seen.per_day, "rates": seen.rates, "rates_assumed": seen.assumed, "guardrails": rows}
        )
        return
    stdout.print(f"{seen.per_day:,.0f} new users a day", highlight=False)
    if seen.assumed:
        stdout.print(ASSUMED, soft_wrap=True)
    stdout.print(_table(rows))
    for row in rows:
        stdout.print(f"{row['metric']}: a candidate that is as good {_passes(row['equal_passes'])}", soft_wrap=True)


def _table(rows: list[dict[str, Any]]) -> Table:
    table = Table("of users", "rate now", "if it becomes", "rolled back by day (4 of 5)", "by day (19 of 20)")
    for row in rows:
        for found in row["found"]:
            days = ("never" if found[power] is None else f"{found[power]}" for power in ("day_80%", "day_95%"))
            table.add_row(row["metric"], f"{row['rate']:.1%}", f"{found['becomes']:.1%}", *days)
    return table


def _passes(by: dict[str, int | None]) -> str:
    half, most = by["day_50%"], by["day_80%"]
    if half is None:
        return "can't be shown so with this traffic: a wider margin or a longer stage (rollout.max_stage_s) can"
    within = f"by day {most} in 4 of 5" if most is not None else "more often than not, in less than 4 of 5"
    return f"is shown so by day {half} in half of such rollouts, {within}"
