"""`trimtab rubric`: what the judge goes by."""

from __future__ import annotations

from pathlib import Path

import click
import msgspec

from deploy.cli.common import Context, pass_context, print_json, stdout
from deploy.cli.groups import Group
from deploy.errors import Failed
from deploy.parts import load_rubric
from feedback.judge import rubric as rubrics
from feedback.judge.rubric import Rubric, RubricError

RUBRIC_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.group(cls=Group)
def rubric() -> None:
    """What the judge goes by: named items with weights, versioned by the hash of what they say.

    \b
    Examples:
      trimtab rubric show
      trimtab rubric check my-rubric.toml
      trimtab rubric diff old.toml new.toml
    """


@rubric.command()
@pass_context()
def show(context: Context) -> None:
    """Show the rubric that is configured."""
    loaded = load_rubric(context.settings.judge)
    if context.as_json:
        print_json({"version": loaded.version, **msgspec.to_builtins(loaded)})
        return
    stdout.print(f"{loaded.name}, version {loaded.version}\n\n{loaded.instructions.strip()}\n", markup=False)
    for item in loaded.items:
        stdout.print(f"{item.name} (weight {item.weight:g}): {item.description}", markup=False)


@rubric.command()
@click.argument("file", type=RUBRIC_FILE)
def check(file: Path) -> None:
    """Say whether a rubric file is right, and its version."""
    stdout.print(f"{file} is right: version {_load(file).version}", markup=False)


@rubric.command()
@click.argument("before", type=RUBRIC_FILE)
@click.argument("after", type=RUBRIC_FILE)
def diff(before: Path, after: Path) -> None:
    """What changed from one rubric file to another."""
    for line in rubrics.diff(_load(before), _load(after)) or ["nothing changed"]:
        stdout.print(line, markup=False)


def _load(file: Path) -> Rubric:
    try:
        return rubrics.load(file)
    except RubricError as error:
        raise Failed(str(error)) from None
