"""`trimtab costs`: what the judge has cost, and what is left of its budget."""

from __future__ import annotations

from dataclasses import asdict

import click
from rich.table import Table

from deploy.cli.common import Context, pass_context, print_json, stdout
from deploy.parts import ledger
from feedback.facts.reader import Facts
from feedback.records import Verdict


@click.command()
@pass_context(looks=True)
def costs(context: Context) -> None:
    """What the judge has cost by UTC day, what a verdict costs, and what is left of its budget now.

    A question that was asked and never settled, because its process died, counts as the most that it may have cost.

    \b
    Examples:
      trimtab costs
      trimtab costs --json
    """
    judge = context.settings.judge
    book = ledger(judge, context.control)
    spent, days = book.spent(context.clock.now_us()), book.by_day()
    judgements = {judgement.verdict_id: judgement for judgement in Facts(context.state.facts).verdicts()}.values()
    verdicts = [judgement for judgement in judgements if isinstance(judgement, Verdict)]
    total_usd = sum(judgement.cost_usd for judgement in judgements)
    per_verdict_usd = total_usd / len(verdicts) if verdicts else None
    if context.as_json:
        print_json(
            {
                "hour": {"spent_usd": spent.hour_usd, "budget_usd": judge.usd_per_hour},
                "day": {"spent_usd": spent.day_usd, "budget_usd": judge.usd_per_day},
                "days": [asdict(day) for day in days],
                "verdicts": len(verdicts),
                "usd_per_verdict": per_verdict_usd,
            }
        )
        return
    stdout.print(f"this hour  {spent.hour_usd:.4f} of {judge.usd_per_hour:.2f} USD (judge.usd_per_hour)")
    stdout.print(f"today      {spent.day_usd:.4f} of {judge.usd_per_day:.2f} USD (judge.usd_per_day)")
    if per_verdict_usd is not None:
        stdout.print(f"a verdict  {per_verdict_usd:.6f} USD on average over {len(verdicts):,} verdicts")
    if days:
        table = Table("UTC day", "questions", "USD", "of it not settled", box=None)
        for day in days:
            table.add_row(day.day, f"{day.questions:,}", f"{day.usd:.4f}", f"{day.unsettled_usd:.4f}")
        stdout.print(table)
    if any(day.unsettled_usd for day in days):
        stdout.print("not settled: under way, or the process died before the answer; counted as the most it may cost")
