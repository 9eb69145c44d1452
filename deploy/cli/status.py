"""`trimtab status`: where the loop stands, on one screen."""

from __future__ import annotations

from collections import Counter
from itertools import zip_longest
from typing import Any

import click
from rich.table import Table

from deploy.cli.common import Context, pass_context, print_json, stdout
from deploy.cli.engine_view import engine_lines, look, missing
from deploy.cli.rollout import account
from deploy.cli.spools_view import abandoned_sentence
from deploy.gateway.orphans import waiting
from deploy.parts import engine_in_use, operations, served_there
from deploy.rules import schedule
from deploy.rules.names import percent, short
from deploy.rules.schedule import NOT_TRAINED, Start, Wait
from deploy.text import ago, iso, shown
from deploy.training.train import since_last
from feedback.dataset import snapshot
from feedback.facts.reader import Facts
from feedback.facts.tables import TABLES
from streams import dead_letters
from streams.app import GROUPS
from streams.log import lag

SHOWN = 5
"""Candidates on the screen, the newest."""


@click.command()
@pass_context(looks=True)
def status(context: Context) -> None:
    """Where the loop stands: events, facts, labels, trainings, candidates, the rollout, and what to type next.

    \b
    Examples:
      trimtab status
      trimtab status --json
    """
    document = _document(context)
    if context.as_json:
        print_json(document)
        return
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_row("state", shown(document["state"]))
    lag = ", ".join(f"{topic} {records:,}" for topic, records in document["lag"].items() if records)
    table.add_row("waiting on the log", lag or "nothing")
    if document["abandoned_spools"]:
        table.add_row("waiting in spools", shown(abandoned_sentence(document["abandoned_spools"], context.state)))
    table.add_row("dead letters", ", ".join(f"{shown(k)} {v:,}" for k, v in document["dead_letters"].items()) or "none")
    table.add_row("facts", ", ".join(f"{name} {rows:,}" for name, rows in document["facts"].items()))
    last = document["snapshot"]
    table.add_row("newest snapshot", f"{last['name']}, as of {last['as_of']}" if last else "none")
    training = document["training"]
    table.add_row("last training", _training(training["last"]))
    table.add_row("next training", f"{'due' if training['due'] else 'waits'}: {shown(training['reason'])}")
    serving = document["serving"]
    table.add_row(
        "serving", f"[bold red]{account(serving)[0]}[/bold red]" if serving["halted"] else account(serving)[0]
    )
    for line in account(serving)[1:-1]:
        table.add_row("", shown(line))
    for sentence in missing(document["engine"], serving):
        table.add_row("", f"[bold red]{shown(sentence)}[/bold red]")
    for title, line in zip_longest(["engine"], engine_lines(document["engine"]), fillvalue=""):
        table.add_row(title, shown(line))
    if document["judge"]["unpriced"] is not None:
        table.add_row("judge", f"[bold red]{shown(document['judge']['unpriced'])}[/bold red]")
    table.add_row("revision", serving["revision"])
    stdout.print(table)
    for candidate in document["candidates"]:
        gate = candidate["gate"]["decision"] if candidate["gate"] else "?"
        stdout.print(
            f"  candidate {short(candidate['digest'])}  {candidate['state']}, share {percent(candidate['share'])}, gate: {gate}"
        )
    stdout.print(f"next: {serving['next']}", markup=False, style="bold", soft_wrap=True)


def _document(context: Context) -> dict[str, Any]:
    state, settings = context.state, context.settings
    control = context.control
    log = context.log
    rules = operations(state, settings, control, context.clock)
    facts = Facts(state.facts)
    manifests = snapshot.list_snapshots(state.snapshots)
    now_us = context.clock.now_us()
    engine = engine_in_use(state, settings.engine)
    decided = schedule.decide(since_last(state, control), settings.train, settings.approve, now_us)
    if not engine.takes_adapters:
        decided = Wait(NOT_TRAINED)
    open_request = control.trainings.open_request()
    last = next(iter(control.trainings.list(1)), None)
    known = log.topics()
    rows = {name: facts.columns(name, ["partition"]).num_rows for name in TABLES}
    return {
        "state": str(state.root),
        "abandoned_spools": waiting(state),
        "lag": lag(log, {topic: group for topic, group in GROUPS.items() if topic in known}),
        "dead_letters": dict(Counter(letter.reason for letter in dead_letters.read(log) if not letter.redriven)),
        "facts": rows,
        "snapshot": {"name": manifests[-1].name, "as_of": iso(manifests[-1].as_of_us)} if manifests else None,
        "training": {
            "due": isinstance(decided, Start),
            "reason": decided.reason,
            "request": open_request.name if open_request and open_request.answer is None else None,
            "last": None
            if last is None
            else {
                "outcome": last.outcome or ("running" if state.played("training") else "killed"),
                "reason": last.reason,
                "error": last.error,
                "started_at": iso(last.started_at_us),
                "age_s": (now_us - last.started_at_us) / 1e6,
            },
        },
        "judge": {"configured": settings.judge.configured, "unpriced": settings.judge.unpriced},
        "engine": look(engine, served_there(state), context.clock),
        "serving": rules.serving(events=bool(rows["turns"]), running=state.played("gateway")),
        "candidates": rules.candidates(SHOWN),
    }


def _training(last: dict[str, Any] | None) -> str:
    if last is None:
        return "none"
    error = f" ({shown(last['error'], 120)})" if last["error"] else ""
    return f"{last['outcome']}{error}, {ago(last['age_s'])}, because: {shown(last['reason'])}"
