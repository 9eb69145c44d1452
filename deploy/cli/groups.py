"""Groups of commands: the options that all share may stand before a command, and who mistypes one is told what is near."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches

import click

VALUED, FLAGS = ("--state", "--config"), ("--json",)
"""What `common.pass_context` gives every command."""


class Group(click.Group):
    """A group whose commands take the shared options wherever they stand."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        return super().parse_args(ctx, shared_last(args))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            near = get_close_matches(args[0], self.list_commands(ctx), 1)
            if near:
                error.message += f" Did you mean {near[0]!r}?"
            raise


def shared_last(words: Sequence[str]) -> list[str]:
    """The words with the shared options from before the command behind it.

    >>> shared_last(["--state", "here", "--json", "status", "-v"])
    ['status', '-v', '--state', 'here', '--json']
    """
    rest, moved = list(words), list[str]()
    while rest and (name := rest[0].partition("=")[0]) in (*VALUED, *FLAGS):
        many = 2 if name in VALUED and "=" not in rest[0] else 1
        moved += rest[:many]
        del rest[:many]
    if not rest or rest[0].startswith("-"):
        return rest
    end = rest.index("--") if "--" in rest else len(rest)
    return [*rest[:end], *moved, *rest[end:]]
