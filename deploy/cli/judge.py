"""`trimtab judge`: what the judge's questions come to; and the question whether it shall be asked, which replay and import put."""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager, nullcontext

import click
import msgspec

from deploy.cli.common import Context, pass_context, print_json, stderr, stdout
from deploy.cli.groups import Group
from deploy.cli.progress import Steps, span
from deploy.parts import ledger
from deploy.replay.judging import estimated, open_questions
from deploy.replay.run import Consent
from feedback.facts.reader import Facts
from feedback.judge.estimate import CALL_S, Estimate
from feedback.settings import JudgeSettings

NOT_CONFIGURED = "none is configured: set judge.base_url and judge.model"


@click.group(cls=Group)
def judge() -> None:
    """The AI judge, which looks at what nobody rated.

    \b
    Example:
      trimtab judge estimate
    """


@judge.command("estimate")
@pass_context(looks=True)
def estimate_(context: Context) -> None:
    """What it would come to if the judge were asked about everything that it has not been asked: questions, tokens, money, time.

    Nothing is asked. `trimtab replay` and `trimtab import` show the same, and ask with --yes. Live turns go to the judge by
    themselves when nobody has rated them for judge.grace_s, within the budget.

    \b
    Examples:
      trimtab judge estimate
      trimtab judge estimate --json
    """
    settings = context.settings.judge
    told = estimated(open_questions(Facts(context.state.facts)), settings)
    left_usd = _left_usd(context)
    why_not = settings.unpriced or (None if settings.configured else NOT_CONFIGURED)
    if context.as_json:
        document = msgspec.to_builtins(told)
        if settings.unpriced or not settings.configured:
            document |= {"usd": None, "most_usd": None}
        print_json(document | {"budget_left_usd": left_usd, "not_asked_because": why_not})
        return
    for line in sentences(told, settings, left_usd):
        stdout.print(line, markup=False, soft_wrap=True)
    if why_not is not None:
        stdout.print(f"the judge: {why_not}", markup=False, soft_wrap=True)


def sentences(told: Estimate, settings: JudgeSettings, left_usd: float) -> list[str]:
    """An estimate for a person."""
    if not told.questions:
        return ["the judge has nothing to be asked"]
    edits = f", {told.edits:,} of them about edits by people without a name" if told.edits else ""
    lines = [
        f"questions  {told.questions:,} for the judge{edits}; {told.calls:,} calls",
        f"tokens     about {told.prompt_tokens:,} asked and {told.completion_tokens:,} answered",
        f"time       about {span(told.seconds)} with judge.parallel = {settings.parallel} and {CALL_S:g} s a call",
    ]
    if settings.unpriced or not settings.configured:
        return [*lines, "money      unknown"]
    if not told.most_usd:
        return [*lines, "money      nothing"]
    lines.append(
        f"money      about {told.usd:.4f} USD, at most {told.most_usd:.4f} USD where every question is tried once"
    )
    if told.most_usd > left_usd / 2:  # the first half of a budget is there for every question
        lines.append(
            f"budget     {left_usd:.4f} USD are left for this hour and day: beyond half of it a sample is asked, beyond all of it "
            f"nothing (judge.usd_per_hour, judge.usd_per_day)"
        )
    return lines


def consent(context: Context, yes: bool, steps: Steps | None = None) -> Consent:
    """Shows what the judge's questions come to, and asks whoever sits there; with `yes`, and where it costs nothing, nobody."""
    settings = context.settings.judge

    def agreed(told: Estimate) -> bool:
        aside: AbstractContextManager[None] = nullcontext() if steps is None else steps.aside()
        with aside:
            for line in sentences(told, settings, _left_usd(context)):
                stderr.print(line, markup=False, soft_wrap=True)
            if yes or not told.most_usd:
                return True
            if sys.stdin.isatty() and stderr.is_terminal and not context.as_json:
                return click.confirm("Ask the judge?", err=True)
        stderr.print("nothing is judged: the same command with --yes asks the judge", markup=False, soft_wrap=True)
        return False

    return agreed


def _left_usd(context: Context) -> float:
    settings = context.settings.judge
    spent = ledger(settings, context.control).spent(context.clock.now_us())
    return max(0.0, min(settings.usd_per_hour - spent.hour_usd, settings.usd_per_day - spent.day_usd))
