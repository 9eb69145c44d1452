"""The command line: one command, `trimtab`. Each group of commands is a module beside this one, imported when needed.

Knows: every room below. Must not know: rules by itself: a command gathers what was typed, calls one operation, and prints.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from typing import TextIO

import click

from deploy.cli.groups import Group
from models.imports import quick_imports

COMMANDS = {
    "init": "init",
    "up": "up",
    "replay": "replay",
    "import": "import_",
    "worker": "roles",
    "gateway": "roles",
    "trainer": "roles",
    "controller": "roles",
    "status": "status",
    "train": "train",
    "candidates": "candidates",
    "show": "candidates",
    "label": "label",
    "approve": "candidates",
    "reject": "candidates",
    "object": "candidates",
    "shadow": "shadow",
    "rollout": "rollout_plan",
    "pause": "rollout",
    "resume": "rollout",
    "promote": "rollout",
    "rollback": "rollout",
    "halt": "rollout",
    "history": "history",
    "dataset": "dataset",
    "topics": "topics",
    "migrate": "migrate",
    "dead-letters": "dead_letters",
    "audit": "audit",
    "rubric": "rubric",
    "judge": "judge",
    "costs": "costs",
    "keys": "keys",
    "config": "config",
    "engine": "engine",
    "doctor": "doctor",
    "version": "version",
}
"""Each command and the module that defines it, as a function or group of the same name (with _ for -)."""


class LazyGroup(Group):
    """Imports a command's module only when that command is asked for, so that `trimtab status` never waits for torch."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        module = COMMANDS.get(cmd_name)
        if module is None:
            return None
        with quick_imports():
            found = importlib.import_module(f"deploy.cli.{module}")
        named = cmd_name.replace("-", "_")
        command = getattr(found, named, None) or getattr(found, f"{named}_")  # of a word that Python keeps for itself
        assert isinstance(command, click.Command)
        return command


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="trimtab")
def trimtab() -> None:
    """Keep a deployed chatbot aligned with the people who use it.

    \b
    See it work:      trimtab replay examples/support.jsonl.gz
    Run the service:  trimtab up
    What now?         trimtab status
    """


def main() -> None:
    """Entry point of the `trimtab` command."""
    _say_at_once(sys.argv[1:], sys.stderr)
    with quick_imports():
        from deploy.cli import common  # takes a second or two on a small machine
        from deploy.roles.logs import log_to_stderr, mask_tracebacks

    mask_tracebacks()
    log_to_stderr("trimtab")

    sys.exit(common.run(lambda: trimtab.main(standalone_mode=False), "--json" in sys.argv))


def _say_at_once(words: Sequence[str], terminal: TextIO) -> None:
    """Who starts the service on a terminal is not left before an empty one while it is being loaded."""
    if words[:1] == ["up"] and not {"--json", "--help", "-h"} & set(words) and terminal.isatty():
        terminal.write("preparing controller, gateway, worker and trainer …\n")
        terminal.flush()
