"""`trimtab status`: where the loop stands, on one screen."""

from __future__ import annotations

import math
from collections import Counter
from itertools import zip_longest
from pathlib import Path
from typing import Any

import click
from rich.table import Table

from deploy.cli import roles_view
from deploy.cli.arms_view import verdict_lines
from deploy.cli.common import Context, pass_context, print_json, stdout
from deploy.cli.engine_view import engine_lines, look, missing
from deploy.cli.judge_view import judge_document, judge_line
from deploy.cli.roles_view import SPOOL_BYTES, SPOOL_LIMIT, TURNS_LOST, as_document, line, told
from deploy.cli.rollout import account
from deploy.cli.shadow import shadow_lines
from deploy.cli.spools_view import abandoned_sentence
from deploy.cli.training_view import training_document, training_line
from deploy.gateway.orphans import waiting
from deploy.parts import engine_in_use, operations, served_there
from deploy.rules import schedule
from deploy.rules.names import percent, short
from deploy.rules.schedule import NOT_TRAINED, Start, Wait
from deploy.text import ago, iso, shown
from deploy.training.noting import noted
from deploy.training.train import since_last
from feedback.dataset import snapshot
from feedback.durable import LOW_BYTES, RESERVE_BYTES, free_bytes, size_bytes
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
    roles = [_marked(line(role), role["ready"]) for role in document["roles"]] or ["none runs"]
    for title, said in zip_longest(["roles"], roles, fillvalue=""):
        table.add_row(title, said)
    table.add_row("disk", _marked(_disk_line(document["disk"]), not document["disk"]["low"]))
    table.add_row("spools", _marked(_spools_line(document["spools"]), not document["spools"]["turns_lost"]))
    lag = ", ".join(f"{topic} {records:,}" for topic, records in document["lag"].items() if records)
    table.add_row("waiting on the log", lag or "nothing")
    if document["abandoned_spools"]:
        table.add_row("waiting in spools", shown(abandoned_sentence(document["abandoned_spools"], context.state)))
    table.add_row("judge", _marked(judge_line(document["judge"]), document["judge"].get("reachable") is not False))
    table.add_row("dead letters", ", ".join(f"{shown(k)} {v:,}" for k, v in document["dead_letters"].items()) or "none")
    table.add_row("facts", ", ".join(f"{name} {rows:,}" for name, rows in document["facts"].items()))
    last = document["snapshot"]
    table.add_row("newest snapshot", f"{last['name']}, as of {last['as_of']}" if last else "none")
    training = document["training"]
    table.add_row("last training", _training(training["last"]))
    if training["under_way"] is not None:
        table.add_row("", training_line(training["under_way"]))
    table.add_row("next training", f"{'due' if training['due'] else 'waits'}: {shown(training['reason'])}")
    serving = document["serving"]
    table.add_row(
        "serving", f"[bold red]{account(serving)[0]}[/bold red]" if serving["halted"] else account(serving)[0]
    )
    for said in account(serving)[1:-1]:
        table.add_row("", shown(said))
    seen = serving["rollout"]["look"] if serving["rollout"] else None
    for said in verdict_lines(seen) if seen else ():
        table.add_row("", shown(said, 1_000))
    if (shadow := serving["shadow"]) is not None:
        for title, said in zip(("shadow", ""), shadow_lines(shadow), strict=True):
            table.add_row(title, _marked(said, shadow["outcome"] != "held"))
    for sentence in missing(document["engine"], serving):
        table.add_row("", f"[bold red]{shown(sentence)}[/bold red]")
    for title, said in zip_longest(["engine"], engine_lines(document["engine"]), fillvalue=""):
        table.add_row(title, shown(said))
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
    decided = schedule.decide(since_last(state, control, now_us), settings.train, settings.approve, now_us)
    if not engine.takes_adapters:
        decided = Wait(NOT_TRAINED)
    open_request = control.trainings.open_request()
    last = next(iter(control.trainings.list(1)), None)
    known = log.topics()
    rows = {name: facts.columns(name, ["partition"]).num_rows for name in TABLES}
    seen = roles_view.look(state.root)
    under_way = last is not None and last.outcome is None and state.played("training")
    return {
        "state": str(state.root),
        "roles": as_document(seen, now_us),
        "disk": _disk(state.root),
        "spools": {
            "bytes": told(seen, SPOOL_BYTES),
            "limit_bytes": told(seen, SPOOL_LIMIT),
            "on_full": settings.gateway.on_full,
            "turns_lost": told(seen, TURNS_LOST),
        },
        "judge": judge_document(context, seen),
        "abandoned_spools": waiting(state),
        "lag": lag(log, {topic: group for topic, group in GROUPS.items() if topic in known}),
        "dead_letters": dict(Counter(letter.reason for letter in dead_letters.read(log) if not letter.redriven)),
        "facts": rows,
        "snapshot": {"name": manifests[-1].name, "as_of": iso(manifests[-1].as_of_us)} if manifests else None,
        "training": {
            "due": isinstance(decided, Start),
            "reason": decided.reason,
            "under_way": training_document(noted(state.work, last.id), now_us) if last and under_way else None,
            "request": open_request.name if open_request and open_request.answer is None else None,
            "last": None
            if last is None
            else {
                "outcome": last.outcome or ("running" if under_way else "killed"),
                "reason": last.reason,
                "error": last.error,
                "started_at": iso(last.started_at_us),
                "age_s": (now_us - last.started_at_us) / 1e6,
            },
        },
        "engine": look(engine, served_there(state), context.clock),
        "serving": rules.serving(events=bool(rows["turns"]), running=state.played("gateway")),
        "candidates": rules.candidates(SHOWN),
    }


def _disk(root: Path) -> dict[str, Any]:
    """Bytes are None where the disk does not say."""
    free, size = free_bytes(root), size_bytes(root)
    known = math.isfinite(free)
    return {
        "free_bytes": int(free) if known else None,
        "size_bytes": int(size) if known else None,
        "low": free < LOW_BYTES,
    }


def _disk_line(disk: dict[str, Any]) -> str:
    if disk["free_bytes"] is None:
        return "it does not say how much is left"
    free = disk["free_bytes"]
    left = f"{free / 1e9:.1f} of {disk['size_bytes'] / 1e9:.1f} GB are left"
    if free < RESERVE_BYTES:
        return f"FULL, {left}: nothing more is learned, and turns are lost or refused; free some space now"
    return f"{left}: free some space before it is full" if disk["low"] else left


def _spools_line(spools: dict[str, Any]) -> str:
    if spools["bytes"] is None:
        return "no gateway runs here that tells"
    lost = f"{spools['turns_lost'] or 0:,.0f} turns lost since the gateways that run started"
    then = "more are refused" if spools["on_full"] == "refuse" else "more are answered and lost"
    return f"{spools['bytes'] / 1e6:,.1f} of {spools['limit_bytes'] / 1e6:,.0f} MB wait (full: {then}); {lost}"


def _marked(text: str, fine: bool) -> str:
    return shown(text) if fine else f"[bold red]{shown(text)}[/bold red]"


def _training(last: dict[str, Any] | None) -> str:
    if last is None:
        return "none"
    error = f" ({shown(last['error'], 120)})" if last["error"] else ""
    return f"{last['outcome']}{error}, {ago(last['age_s'])}, because: {shown(last['reason'])}"
