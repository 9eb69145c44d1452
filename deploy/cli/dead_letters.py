"""`trimtab dead-letters`: what could not be taken in, why, and sending it again."""

from __future__ import annotations

import base64
import sys
from collections import Counter
from collections.abc import Callable
from contextlib import closing

import click
from rich.table import Table

from deploy.cli.common import Context, pass_context, print_json, stdout
from deploy.cli.decide import actor
from deploy.cli.groups import Group
from deploy.control.history import Entry
from deploy.errors import Failed
from deploy.text import iso, moment, plain, shown
from feedback.intake.edge import Edge
from streams import dead_letters as letters
from streams.dead_letters import DeadLetter

SHOWN = 50
MAX_AGE_S = 1e10
"""Longer ago than any letter."""


@click.group("dead-letters", cls=Group)
def dead_letters() -> None:
    """What could not be taken in, kept with its original bytes and the reason.

    \b
    Examples:
      trimtab dead-letters ls
      trimtab dead-letters show 2-17
      trimtab dead-letters redrive --reason future            # only says what it would do
      trimtab dead-letters redrive --reason future --yes
      trimtab dead-letters purge --older-than-s 604800
    """


@dead_letters.command()
@click.option("--reason", help="Only letters with this reason code.")
@pass_context(looks=True)
def ls(context: Context, reason: str | None) -> None:
    """List dead letters, newest last."""
    found = [letter for letter in _read(context) if reason is None or letter.reason == reason]
    if context.as_json:
        print_json([_document(letter) for letter in found])
        return
    if not found:
        stdout.print("no dead letters")
        return
    for code, number in Counter(letter.reason for letter in found).most_common():
        stdout.print(f"{number:>8,}  {shown(code)}")
    table = Table("id", "when", "reason", "where", "what is wrong", box=None)
    for letter in found[-SHOWN:]:
        state = f"{letter.reason} (redriven)" if letter.redriven else letter.reason
        table.add_row(letter.id, moment(letter.at_us), state, shown(_place(letter)), shown(letter.message, 100))
    stdout.print(table)
    if len(found) > SHOWN:
        stdout.print(f"the newest {SHOWN} of {len(found):,}; --json lists all")


@dead_letters.command()
@click.argument("letter_id", metavar="ID")
@pass_context(looks=True)
def show(context: Context, letter_id: str) -> None:
    """Show one dead letter with its original bytes (raw: they were never redacted)."""
    found = next((letter for letter in _read(context) if letter.id == letter_id), None)
    if found is None:
        raise Failed(_unknown(letter_id))
    if context.as_json:
        print_json({**_document(found), "value_base64": base64.b64encode(found.value).decode()})
        return
    for name, value in _document(found).items():
        stdout.print(f"{name:<10} {shown(str(value))}")
    click.echo(plain(found.value.decode("utf-8", "backslashreplace")))


@dead_letters.command()
@click.argument("ids", nargs=-1)
@click.option("--reason", help="Letters with this reason code.")
@click.option("--newer-than-s", type=float, help="Letters that are at most so many seconds old.")
@click.option("--yes", is_flag=True, help="Do it; without this it only says what it would do.")
@pass_context()
def redrive(context: Context, ids: tuple[str, ...], reason: str | None, newer_than_s: float | None, yes: bool) -> None:
    """Send dead letters through the edge again; events keep their identity, so nothing is counted twice."""
    now_us = context.clock.now_us()
    since_us = None if newer_than_s is None else now_us - _age_us(newer_than_s, "--newer-than-s")
    chosen = _chosen(_read(context), ids, letters.selection(reason, since_us, ids))
    if not yes:
        if context.as_json:
            print_json({"would_redrive": [letter.id for letter in chosen]})
        else:
            stdout.print(f"{len(chosen):,} dead letters would be sent again; --yes does it")
        return
    outcome = letters.redrive(context.log, Edge(context.state.secret("edge")), chosen, now_us)
    refused = [(letter, rejected) for letter, rejected in outcome if rejected is not None]
    if context.as_json:
        again = [
            {"id": letter.id, "reason": rejected.code, "message": rejected.message} for letter, rejected in refused
        ]
        print_json({"redriven": len(outcome) - len(refused), "refused": again})
        return
    stdout.print(f"{len(outcome) - len(refused):,} sent again, {len(refused):,} refused once more")
    for letter, rejected in refused[:SHOWN]:
        stdout.print(f"  {letter.id}  {shown(rejected.message, 100)}")


@dead_letters.command()
@click.argument("ids", nargs=-1)
@click.option("--reason", help="Letters with this reason code.")
@click.option("--older-than-s", type=float, help="Letters that are at least so many seconds old.")
@click.option("--yes", is_flag=True, help="Do it without a question.")
@pass_context()
def purge(context: Context, ids: tuple[str, ...], reason: str | None, older_than_s: float | None, yes: bool) -> None:
    """Remove dead letters for good, redriven ones too; the history tells of it. What is replayed later may be refused anew.

    On Kafka they are not shown any more, and their bytes go with the topic's retention.
    """
    now_us = context.clock.now_us()
    until_us = None if older_than_s is None else now_us - _age_us(older_than_s, "--older-than-s")
    chosen = _chosen(_read(context), ids, letters.selection(reason, None, ids, until_us, redriven=True))
    counted = dict(Counter(letter.reason for letter in chosen).most_common())
    told = ", ".join(f"{number:,} {shown(code)}" for code, number in counted.items()) or "none"
    if chosen and not yes and not context.as_json and sys.stdin.isatty() and sys.stdout.isatty():
        yes = click.confirm(f"Remove {len(chosen):,} dead letters for good ({told})?", abort=True)
    if not yes:
        if context.as_json:
            print_json({"would_purge": [letter.id for letter in chosen]})
        else:
            stdout.print(f"{len(chosen):,} dead letters would be removed for good ({told}); --yes does it")
        return
    if chosen:
        _note(context, counted, told, now_us)
        letters.purge(context.log, chosen)
    if context.as_json:
        print_json({"purged": len(chosen), "reasons": counted})
    else:
        stdout.print(f"{len(chosen):,} removed ({told})")


def _note(context: Context, counted: dict[str, int], told: str, now_us: int) -> None:
    """Written before anything is removed: what is gone without a word nobody finds again."""
    with closing(context.control) as control, control.change() as tx:
        tx.append(Entry(now_us, actor(), "dead-letters purge", None, None, None, told, {"reasons": counted}))


def _chosen(found: list[DeadLetter], ids: tuple[str, ...], wanted: Callable[[DeadLetter], bool]) -> list[DeadLetter]:
    """Those that are wanted; raises Failed where an id is nobody's."""
    if unknown := sorted(set(ids) - {letter.id for letter in found}):
        raise Failed(_unknown(", ".join(unknown)))
    return list(filter(wanted, found))


def _unknown(ids: str) -> str:
    return f"there is no dead letter {ids}: `trimtab dead-letters ls` lists them"


def _age_us(seconds: float, option: str) -> int:
    if not 0 <= seconds <= MAX_AGE_S:  # and so not for what is no number
        raise click.BadParameter(f"{seconds} is no age: give seconds, 0 or more", param_hint=f"'{option}'")
    return int(seconds * 1e6)


def _read(context: Context) -> list[DeadLetter]:
    return sorted(letters.read(context.log), key=lambda letter: letter.at_us)


def _place(letter: DeadLetter) -> str:
    if letter.file is not None:
        return f"{letter.file}, line {letter.line}"
    return f"{letter.topic}/{letter.partition} at {letter.offset}"


def _document(letter: DeadLetter) -> dict[str, object]:
    return {
        "id": letter.id,
        "at": iso(letter.at_us),
        "reason": letter.reason,
        "field": letter.field,
        "message": letter.message,
        "where": _place(letter),
        "attempts": letter.attempts,
        "version": letter.version,
        "bytes": len(letter.value),
        "redriven": letter.redriven,
    }
