"""`trimtab audit`: is everything that is on the log among the facts, once and unchanged?"""

from __future__ import annotations

import dataclasses

import click
from rich.table import Table

from deploy.cli.common import DONE, FAILED, Context, pass_context, print_json, stdout
from deploy.cli.groups import Group
from deploy.parts import unsigned
from feedback.facts.reader import Facts
from feedback.facts.writer import FactsWriter
from feedback.intake.edge import Edge
from streams.care.audit import Finding, ranges, repair
from streams.care.audit import audit as look

SHOWN = 200
"""Characters of a list of offsets."""


@click.group(cls=Group)
def audit() -> None:
    """Compare the log with the facts, offset by offset.

    \b
    Examples:
      trimtab audit verify
      trimtab audit verify --repair
    """


@audit.command()
@click.option("--repair", "mend", is_flag=True, help="Take records that are missing among the facts in again.")
@pass_context()
def verify(context: Context, mend: bool) -> int:
    """Say what is missing, doubled, changed or unknown among the facts. It may run beside the worker.

    Exit code 1 when anything is wrong. What the worker has not reached yet is no fault, and counted as waiting. A record
    counts once per offset: an event that was sent twice stands twice on the log and twice among the facts; the seal takes
    it once.
    """
    log, facts = context.log, Facts(context.state.facts)
    findings = list(look(log, facts))
    taken = put_aside = 0
    if mend and any(finding.missing for finding in findings):
        with context.state.lock("repair"):
            writer = FactsWriter(context.state.facts, log.identity, context.clock)
            taken, put_aside = repair(
                log, writer, Edge(context.state.secret("edge")), look(log, facts), unsigned(context.state, log)
            )
        findings = list(look(log, facts))
    good = all(finding.good for finding in findings)
    if context.as_json:
        document = {"good": good, "repaired": taken, "dead_letters": put_aside}
        print_json({**document, "partitions": [dataclasses.asdict(finding) for finding in findings]})
    else:
        _show(findings)
        if mend:
            stdout.print(f"{taken:,} missing records are facts now, {put_aside:,} are dead letters")
        _conclude(findings, good)
    log.close()
    return DONE if good else FAILED


def _show(findings: list[Finding]) -> None:
    wrong = ("missing", "doubled", "changed", "unknown")
    table = Table("topic", "partition", "records", "facts", "dead letters", "waiting", *wrong, box=None)
    for finding in findings:
        counts = (finding.records, finding.facts, finding.dead_letters, finding.waiting)
        faults = (len(getattr(finding, name)) for name in wrong)
        table.add_row(finding.topic, str(finding.partition), *(f"{n:,}" for n in counts), *(f"{n:,}" for n in faults))
    stdout.print(table)
    for finding in findings:
        for name in wrong:
            if offsets := getattr(finding, name):
                stdout.print(f"{finding.topic}/{finding.partition} {name} at {ranges(offsets)[:SHOWN]}", soft_wrap=True)


def _conclude(findings: list[Finding], good: bool) -> None:
    if good:
        records = sum(finding.records - finding.waiting for finding in findings)
        stdout.print(f"good: {records:,} records are each one fact or one dead letter")
        return
    if any(finding.missing for finding in findings):
        stdout.print("`trimtab audit verify --repair` takes missing records in again")
    if any(finding.doubled or finding.changed or finding.unknown for finding in findings):
        stdout.print(
            "what is doubled counts once in every dataset; changed or unknown facts were written by something else"
        )
