"""`trimtab dataset`: the sealed snapshots."""

from __future__ import annotations

from pathlib import Path

import click
import msgspec
from rich.table import Table

from deploy.cli.common import Context, pass_context, print_json, stdout
from deploy.cli.groups import Group
from deploy.errors import Failed
from deploy.text import moment, shown
from deploy.training.train import seal_now
from feedback.dataset import snapshot
from feedback.dataset.snapshot import Manifest, SnapshotError


@click.group(cls=Group)
def dataset() -> None:
    """Sealed snapshots: what a training learns from.

    \b
    Examples:
      trimtab dataset seal
      trimtab dataset ls
      trimtab dataset show 20261120
      trimtab dataset export 20261120 > rows.jsonl
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
@click.argument("name")
@pass_context(with_json=False, looks=True)
def export(context: Context, name: str) -> None:
    """Write a snapshot's rows to stdout as JSON lines, each naming its table (it holds redacted chats: keep it private)."""
    path = _find(context, name)
    for line in snapshot.export(path):
        click.echo(line)


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
