"""`trimtab import`: other systems' logs as events, with an account of what came and what would be lost."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import click
import msgspec

from deploy.cli.common import Context, pass_context, print_json, stderr, stdout
from deploy.cli.judge import consent
from deploy.cli.progress import Steps
from deploy.errors import Failed
from deploy.replay.run import run
from deploy.roles.logs import configure
from deploy.text import shown
from feedback.intake import contract
from feedback.intake.contract import Rejected
from feedback.intake.event_files import Line
from feedback.intake.foreign import csv_table, open_webui, openai_chats
from feedback.intake.foreign.converting import Conversion, NotThis

FORMATS: dict[str, Callable[[Path, Conversion], Iterator[Line]]] = {
    "openai": openai_chats.read,
    "open-webui": open_webui.read,
    "csv": csv_table.read,
}


@click.command("import")
@click.argument("files", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--format", "name", required=True, type=click.Choice(tuple(FORMATS)), help="Whose logs these are.")
@click.option(
    "--map",
    "mapped",
    multiple=True,
    metavar="FIELD=COLUMN",
    help=f"Of a CSV: which column is {', '.join(csv_table.FIELDS)}.",
)
@click.option("--time", metavar="TIME", help="When it happened, of what says no time itself (RFC 3339).")
@click.option("--policy", default="imported", show_default=True, help="The model, of what names none itself.")
@click.option("--dry-run", is_flag=True, help="Only say what would come and what would be lost; nothing is written.")
@click.option("--yes", is_flag=True, help="Ask the judge about what nobody rated, whatever it is estimated to cost.")
@pass_context()
def import_(
    context: Context,
    files: tuple[Path, ...],
    name: str,
    mapped: tuple[str, ...],
    time: str | None,
    policy: str,
    dry_run: bool,
    yes: bool,
) -> None:
    """Take in the logs of another system, and say what of them is lost and why. Importing twice adds nothing.

    What nobody rated goes to the judge, where one is configured, after it was shown what that will come to: on a terminal it is
    asked for, elsewhere --yes is needed (also later: import the same again); a judge that costs nothing is asked at once.
    Nothing is trained on yet: `trimtab train` does that.

    \b
    Examples:
      trimtab import chats.jsonl --format openai --time 2026-01-31T12:00:00Z --dry-run
      trimtab import chat-export.json feedback-export.json --format open-webui
      trimtab import ratings.csv --format csv --map prompt=question --map reply=answer --map rating=thumb
    """
    conversion = Conversion(time=_checked(time), policy=policy, mapping=_mapping(mapped))
    reader = partial(_read, FORMATS[name], conversion)
    try:
        # once to the end, before anything is written: a file that is something else changes nothing
        refused = _refused(files, reader, context.clock.now_us())
        document = _document(conversion, refused, dry_run)
        if not dry_run:
            conversion = Conversion(time=conversion.time, policy=policy, mapping=conversion.mapping)
            document["taken"] = _take_in(context, files, partial(_read, FORMATS[name], conversion), yes)
    except NotThis as error:
        raise Failed(str(error)) from None
    if context.as_json:
        print_json(document)
    else:
        _print(document)


def _read(
    read: Callable[[Path, Conversion], Iterator[Line]], conversion: Conversion, path: Path, note: Any
) -> Iterator[Line]:
    yield from read(path, conversion)


def _refused(
    files: tuple[Path, ...], reader: Callable[[Path, Any], Iterator[Line]], now_us: int
) -> dict[str, dict[str, Any]]:
    """Events that the edge would refuse, by reason."""
    refused: dict[str, dict[str, Any]] = {}
    for path in files:
        for line in reader(path, None):
            made = contract.parse(line.raw, now_us)
            if isinstance(made, Rejected):
                told = refused.setdefault(made.code, {"count": 0, "first": [], "message": made.message})
                told["count"] += 1
                if len(told["first"]) < 5:
                    told["first"].append(f"{path.name}, line {line.number}")
    return refused


def _take_in(context: Context, files: tuple[Path, ...], reader: Any, yes: bool) -> dict[str, Any]:
    configure("import")
    with Steps(stderr, context.clock) as steps, context.state.lock("worker"):
        total = sum(path.stat().st_size for path in files)
        at = lambda step, done, of: steps.at(step, done, of or total)  # noqa: E731
        taken = asyncio.run(
            run(
                files,
                context.state,
                context.settings,
                context.control,
                context.clock,
                at,
                reader,
                consent(context, yes, steps),
            )
        )
    said: dict[str, Any] = msgspec.to_builtins(taken)
    return said


def _document(conversion: Conversion, refused: dict[str, dict[str, Any]], dry_run: bool) -> dict[str, Any]:
    lost = {reason: {"count": number, "first": conversion.first[reason]} for reason, number in conversion.lost.items()}
    return {"dry_run": dry_run, "events": dict(conversion.came), "lost": lost, "refused": refused}


def _print(document: dict[str, Any]) -> None:
    events = ", ".join(f"{number:,} {shown(kind)}" for kind, number in document["events"].items()) or "nothing"
    stdout.print(f"found: {events}", soft_wrap=True)
    for title in ("lost", "refused"):
        for reason, told in document[title].items():
            why = told.get("message", reason)
            stdout.print(
                f"{title}: {told['count']:,}, {shown(why, 200)} (first: {shown('; '.join(told['first']))})",
                soft_wrap=True,
            )
    if document["dry_run"]:
        stdout.print("nothing was written; without --dry-run it is taken in")
        return
    taken = document["taken"]
    dead = sum(taken["dead_letters"].values())
    stdout.print(
        f"taken in: {taken['turns']:,} turns, {sum(taken['ratings'].values()):,} ratings, {taken['duplicates']:,} duplicates, "
        f"{dead:,} dead letters",
        soft_wrap=True,
    )


def _mapping(mapped: tuple[str, ...]) -> dict[str, str]:
    pairs = dict[str, str]()
    for one in mapped:
        field, equals, column = one.partition("=")
        if not equals or field not in csv_table.FIELDS:
            raise click.BadParameter(
                f"{one!r} is not FIELD=COLUMN with a field of {', '.join(csv_table.FIELDS)}", param_hint="--map"
            )
        pairs[field] = column
    return pairs


def _checked(time: str | None) -> str | None:
    try:
        if time is not None:
            contract.time_us(time)
    except ValueError as error:
        raise click.BadParameter(f"{time!r} {error}", param_hint="--time") from None
    return time
