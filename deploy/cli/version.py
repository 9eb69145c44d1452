"""`trimtab version`: what runs here, for a report of a fault."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed

import click

from deploy.cli.common import Context, pass_context, print_json, stdout

PARTS = ("torch", "transformers", "peft", "faust-streaming", "kafka-python", "deltalake")


@click.command()
@pass_context(looks=True)
def version(context: Context) -> None:
    """Say which version this is, of Python and of its main parts too.

    \b
    Examples:
      trimtab version
      trimtab version --json
    """
    found = {"trimtab": installed("trimtab"), "python": platform.python_version(), "platform": platform.platform()}
    found |= {name: known for name in PARTS if (known := _installed(name)) is not None}
    if context.as_json:
        print_json(found)
        return
    for name, known in found.items():
        stdout.print(f"{name} {known}", markup=False, soft_wrap=True)


def _installed(name: str) -> str | None:
    try:
        return installed(name)
    except PackageNotFoundError:
        return None
