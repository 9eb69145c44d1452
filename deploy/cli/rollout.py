"""`trimtab pause`, `resume`, `promote`, `rollback`, `halt`: the rollout from the command line, made from the one table."""

from __future__ import annotations

from typing import Any

import click

from deploy.cli.common import Context, pass_context, print_json, stdout
from deploy.cli.decide import actor, operations
from deploy.decisions.commands import EXPECT_HELP, ROLLOUT_COMMANDS
from deploy.rules.names import percent, policy_name
from deploy.text import shown


def _command(name: str) -> click.Command:
    command = ROLLOUT_COMMANDS[name]

    @pass_context(decides=True)
    def run(context: Context, /, reason: str, expect: str | None, **flags: bool) -> None:
        with operations(context) as rules:
            _answer(context, command.run(rules, actor=actor(), reason=reason, expect=expect, **flags))

    run = click.option("--expect", metavar="REVISION", help=EXPECT_HELP)(run)
    for flag, meaning in command.flags.items():
        run = click.option(f"--{flag.replace('_', '-')}", flag, is_flag=True, help=meaning)(run)
    run = click.option("--reason", default="", help="A sentence for whoever reads the history later.")(run)
    text = f"{command.help}\n\n\b\nExample:\n  trimtab {command.example}"
    return click.command(name, help=text)(run)


pause, resume, promote, rollback, halt = (_command(name) for name in ("pause", "resume", "promote", "rollback", "halt"))


def _answer(context: Context, serving: dict[str, Any]) -> None:
    if context.as_json:
        print_json(serving)
        return
    for line in account(serving):
        stdout.print(shown(line), soft_wrap=True)


def account(serving: dict[str, Any]) -> list[str]:
    """What is served now, and what to type next, line by line."""
    incumbent, rollout = policy_name(serving["incumbent"]), serving["rollout"]
    if serving["halted"]:
        what = f"HALTED: the bare base serves everything (else: {incumbent})"
    elif rollout is None:
        what = f"{incumbent} serves everything"
    else:
        candidate, share = policy_name(rollout["candidate"]), rollout["share"]
        what = f"{incumbent} serves {percent(1 - share)}, {candidate} serves {percent(share)} ({rollout['state']})"
    why = [f"{one['reason']} ({one['actor']}, {one['at']})" for one in serving["because"] if one["reason"]]
    blocked = [
        f"blocked: {policy_name(one['candidate'])}: {one['actor']} objects: {one['reason']} ({one['at']})"
        for one in serving["objections"]
    ]
    return [what, *([f"because: {'; '.join(why)}"] if why else []), *blocked, f"next: {serving['next']}"]
