"""`trimtab history`: who did what, when and why."""

from __future__ import annotations

from typing import Any

import click
from rich.table import Table

from deploy.cli.common import LIMIT, Context, pass_context, print_json, stdout
from deploy.cli.decide import operations
from deploy.control.trainings import PREFIX
from deploy.decisions.looking import PAGE
from deploy.decisions.operations import Operations
from deploy.decisions.views import became
from deploy.rules.names import percent, policy_name, short
from deploy.text import shown


@click.command()
@click.argument("subject", required=False)
@click.option("--limit", type=LIMIT, default=PAGE, show_default=True, help="Entries to show.")
@click.option("--before", type=click.IntRange(1), help="Only entries with a smaller number than this.")
@click.option("--shares", is_flag=True, help="Who served what share from when to when, instead.")
@pass_context(looks=True)
def history(context: Context, subject: str | None, limit: int, before: int | None, shares: bool) -> None:
    """Who did what, when and why, newest first: approvals, shares, halts and resumes, keys, trainings.

    SUBJECT is a candidate, the id of a key, or training-N; without it all is shown.

    \b
    Examples:
      trimtab history
      trimtab history 3f2a9c --json
      trimtab history --shares
    """
    with operations(context) as rules:
        found = rules.periods(limit) if shares else rules.history(limit, _subject(rules, subject), before)
    if context.as_json:
        print_json(found)
    elif not found:
        stdout.print("nothing has happened yet")
    else:
        stdout.print(_periods(found) if shares else _entries(found))


def _subject(rules: Operations, given: str | None) -> str | None:
    """A candidate's whole digest; a key's id, or a training, as it is."""
    if given is None or given.startswith(PREFIX) or any(key.id == given for key in rules.control.keys.list()):
        return given
    with rules.control.read() as tx:
        return tx.candidate(given).digest


def _entries(found: list[dict[str, Any]]) -> Table:
    table = Table("number", "when (UTC)", "who", "what", "of", "from → to", "why")
    for event in found:
        subject = event["subject"] or "the service"
        table.add_row(
            str(event["number"]),
            _moment(event["at"]),
            shown(event["actor"]),
            event["action"],
            shown(short(subject) if len(subject) == 64 else subject),
            shown(became(event)),
            shown(event["reason"], 200),
        )
    return table


def _periods(found: list[dict[str, Any]]) -> Table:
    table = Table("from (UTC)", "to", "share", "candidate", "incumbent")
    for period in found:
        share = "halted" if period["halted"] else percent(period["share"])
        candidate = short(period["candidate"]) if period["candidate"] else "-"
        table.add_row(
            _moment(period["from"]), _moment(period["to"]), share, candidate, policy_name(period["incumbent"])
        )
    return table


def _moment(at: str | None) -> str:
    return at[:19].replace("T", " ") if at is not None else "now"
