"""`trimtab config`: what is configured, what could be."""

from __future__ import annotations

import click

from deploy.cli.common import Context, pass_context, print_json, stdout
from deploy.cli.groups import Group
from deploy.cli.reference import config_reference
from deploy.settings import Settings


@click.group(cls=Group)
def config() -> None:
    """The configuration file trimtab.toml.

    \b
    Examples:
      trimtab config check
      trimtab config check --config /etc/trimtab.toml
      trimtab config reference
    """


@config.command()
@pass_context()
def check(context: Context) -> None:
    """Say whether the configuration (file and environment) is right, and what differs from the defaults."""
    settings, defaults = context.settings.model_dump(mode="json"), Settings.model_construct().model_dump(mode="json")
    changed = {
        f"{section}.{key}": value
        for section, values in settings.items()
        for key, value in values.items()
        if value != defaults[section][key]
    }
    warnings = [sentence] if (sentence := context.settings.judge.unpriced) is not None else []
    if context.as_json:
        print_json({"ok": True, "changed": changed, "warnings": warnings})
        return
    stdout.print("the configuration is right" + ("; it changes:" if changed else "; everything is at its default"))
    for key, value in changed.items():
        stdout.print(f"  {key} = {value!r}", markup=False)
    for sentence in warnings:
        stdout.print(f"but {sentence}", markup=False, style="bold", soft_wrap=True)


@config.command()
def reference() -> None:
    """Print every key with its type, default and meaning (Markdown)."""
    click.echo(config_reference())
