"""`trimtab dataset`: the sealed snapshots."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import get_args

import click
import msgspec
from rich.table import Table

from deploy.cli.common import Context, pass_context, print_json, stderr, stdout
from deploy.cli.groups import Group
from deploy.errors import Failed
from deploy.text import moment, shown
from deploy.training.train import seal_now
from feedback.dataset import exporting, snapshot
from feedback.dataset.exporting import SHAPES
from feedback.dataset.snapshot import Manifest, SnapshotError
from feedback.dataset.tables import TableName
from feedback.records import Split

NAMES: dict[str, TableName] = {
    "pairs": "pairs", "labels": "unpaired", "unpaired": "unpaired", "demonstrations": "demonstrations",
}  # fmt: skip
HELD_OUT: dict[str, str] = {"gate": "gates", "calibrate": "calibrates"}


@click.group(cls=Group)
def dataset() -> None:
    """Sealed snapshots: what a training learns from.

    \b
    Examples:
      trimtab dataset seal
      trimtab dataset ls
      trimtab dataset show 20261120
      trimtab dataset export 20261120 > rows.jsonl
      trimtab dataset export --format trl --table pairs --out pairs.jsonl
      trimtab dataset diff 20261113 20261120
    """


@dataset.command()
@pass_context()
def seal(context: Context) -> None:
    """Seal what is known now as a snapshot, without training on it."""
    sealed = seal_now(context.state, context.settings, context.clock.now_us())
    if context.as_json:
        print_json(_document(sealed.manifest))
        return
    labels = ", ".join(f"{rows:,} {table}" for table, rows in sorted(sealed.manifest.rows.items()))
    stdout.print(f"sealed {sealed.name}: {labels}", soft_wrap=True)
    stdout.print(sealed.manifest.dataset_hash, soft_wrap=True)


@dataset.command()
@pass_context(looks=True)
def ls(context: Context) -> None:
    """List snapshots, oldest first."""
    manifests = snapshot.list_snapshots(context.state.snapshots)
    if context.as_json:
        print_json([_document(manifest) for manifest in manifests])
        return
    if not manifests:
        stdout.print(
            "no snapshot yet: `trimtab dataset seal` seals one, so do `trimtab train` and `trimtab replay FILE --no-train`"
        )
        return
    table = Table("snapshot", "as of", "turns", "pairs", "unpaired", "demonstrations", box=None)
    for manifest in manifests:
        rows = manifest.rows
        numbers = [f"{rows[name]:,}" for name in ("turns", "pairs", "unpaired", "demonstrations")]
        table.add_row(manifest.name, moment(manifest.as_of_us), *numbers)
    stdout.print(table)


@dataset.command()
@click.argument("name")
@pass_context(looks=True)
def show(context: Context, name: str) -> None:
    """Show one snapshot: its counts, splits and lineage, and whether its content is still what was sealed."""
    path = _find(context, name)
    try:
        manifest = snapshot.verify(path)
    except SnapshotError as error:
        raise Failed(str(error)) from None
    if context.as_json:
        print_json(_document(manifest))
        return
    counts = manifest.counts
    table = Table(box=None, show_header=False)
    table.add_row("snapshot", manifest.name)
    table.add_row("dataset hash", f"{manifest.dataset_hash} (verified)")
    table.add_row("as of", moment(manifest.as_of_us))
    table.add_row("rules version", manifest.rules_version)
    table.add_row("after", manifest.predecessor.name if manifest.predecessor else "nothing: it is the first")
    older = f"; {counts.older_turns:,} older ones were not read" if counts.older_turns else ""
    table.add_row("turns", f"{counts.turns:,}, in the window {counts.in_window:,}{older}")
    for title, figures in (
        ("left out of the window", counts.dropped),
        ("can't be learned from", counts.untrainable),
        ("pairs", counts.pairs),
        ("unpaired labels", counts.unpaired),
        ("labels by source", counts.sources),
        ("ratings came to", counts.rating_uses),
        ("verdicts came to", counts.verdict_uses),
        ("unjudged", counts.unjudged),
    ):
        table.add_row(title, ", ".join(f"{shown(key)} {value:,}" for key, value in sorted(figures.items())) or "none")
    table.add_row("demonstrations", f"{counts.demonstrations:,}")
    for name, splits in counts.splits.items():
        table.add_row(
            f"{name} by split", ", ".join(f"{key} {value:,}" for key, value in sorted(splits.items())) or "none"
        )
    stdout.print(table)


@dataset.command()
@click.argument("name", required=False)
@click.option(
    "--format",
    "shape",
    type=click.Choice(("jsonl", *SHAPES)),
    default="jsonl",
    show_default=True,
    help="All rows as they are; or one table for TRL, for OpenAI's fine-tuning, or as parquet.",
)
@click.option(
    "--table", type=click.Choice(tuple(NAMES)), help="Which rows [default: pairs]; not for jsonl, which has all."
)
@click.option(
    "--split", type=click.Choice(get_args(Split)), help="Whose rows [default: train]; not for jsonl, which has all."
)
@click.option("--out", type=click.Path(path_type=Path), help="File, or directory, to write to [default: stdout].")
@pass_context(with_json=False, looks=True)
def export(
    context: Context, name: str | None, shape: str, table: str | None, split: Split | None, out: Path | None
) -> None:
    """Write a snapshot's rows (it holds redacted chats: keep it private). NAME: the start of its name [default: the newest].

    \b
    Examples:
      trimtab dataset export 20261120 > rows.jsonl
      trimtab dataset export --format trl --table pairs --out pairs.jsonl
      trimtab dataset export 20261120 --format openai --table demonstrations --out exported/
    """
    path = _find(context, name or _newest(context))
    if shape == "jsonl":
        if table or split:
            raise click.UsageError("--table and --split go with --format trl, openai or parquet: jsonl has all rows")
        _write(snapshot.export(path), out, f"{path.name}.jsonl")
        return
    _export_table(path, shape, NAMES[table or "pairs"], split or "train", out)


def _export_table(path: Path, shape: str, table: TableName, split: Split, out: Path | None) -> None:
    if split != "train":
        stderr.print(f"these rows are of the {split} split: what {HELD_OUT[split]} must never train", soft_wrap=True)
    if shape == "parquet":
        if out is None:
            raise click.UsageError("parquet needs --out: a terminal can't show it")
        target = _target(out, f"{table}.parquet")
        with _replacing(target) as fresh:
            rows, left = exporting.write_parquet(path, table, split, fresh), 0
    else:
        told = exporting.Told()
        try:
            lines = exporting.lines(path, shape, table, split, told)
        except SnapshotError as error:
            raise click.UsageError(str(error)) from None
        _write(lines, out, f"{table}.jsonl")
        rows, left = told.rows, told.undecided
    undecided = f"; {left:,} that prefer neither were left out" if left else ""
    stderr.print(f"{rows:,} rows of {table}, {split} split{undecided}", soft_wrap=True)


def _write(lines: Iterable[str], out: Path | None, name: str) -> None:
    if out is None:
        for line in lines:
            click.echo(line)
        return
    with _replacing(_target(out, name)) as fresh, fresh.open("w", encoding="utf-8") as file:
        file.writelines(f"{line}\n" for line in lines)


def _target(out: Path, name: str) -> Path:
    """The file itself; in a directory, which is made where none is named by a suffix, the file of this name."""
    if out.is_dir() or not out.suffix:
        out.mkdir(parents=True, exist_ok=True)
        return out / name
    out.parent.mkdir(parents=True, exist_ok=True)
    return out


@contextmanager
def _replacing(target: Path) -> Iterator[Path]:
    """A private file that takes the target's place once it is complete."""
    fresh = target.with_name(f".{target.name}.part")
    fresh.touch(mode=0o600)
    try:
        yield fresh
        fresh.replace(target)
    finally:
        fresh.unlink(missing_ok=True)


def _newest(context: Context) -> str:
    names = [manifest.name for manifest in snapshot.list_snapshots(context.state.snapshots)]
    if not names:
        raise Failed("there is no snapshot yet: `trimtab dataset seal` seals one")
    return names[-1]


@dataset.command()
@click.argument("before")
@click.argument("after")
@pass_context(looks=True)
def diff(context: Context, before: str, after: str) -> None:
    """How the rows of two snapshots differ, by table."""
    changes = snapshot.diff(_find(context, before), _find(context, after))
    if context.as_json:
        print_json({name: msgspec.to_builtins(change) for name, change in changes.items()})
        return
    table = Table("table", "added", "removed", "changed", box=None)
    for name, change in changes.items():
        table.add_row(name, f"{change.added:,}", f"{change.removed:,}", f"{change.changed:,}")
    stdout.print(table)


def _find(context: Context, prefix: str) -> Path:
    """The snapshot whose name, or the hash in it, begins with `prefix`."""
    folder = context.state.snapshots
    names = [manifest.name for manifest in snapshot.list_snapshots(folder)]
    found = [name for name in names if name.startswith(prefix) or name.split("-")[-1].startswith(prefix)]
    if len(found) != 1:
        known = ", ".join(found or names[-5:]) or "none yet"
        raise Failed(f"{'several snapshots begin' if found else 'no snapshot begins'} with {prefix!r} (known: {known})")
    return folder / found[0]


def _document(manifest: Manifest) -> dict[str, object]:
    document: dict[str, object] = msgspec.to_builtins(manifest)
    return document
