"""`trimtab shadow`: which candidate answers a copy of some turns, unseen; and how that goes, in words."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import click

from deploy.cli.common import Context, pass_context, print_json, stdout
from deploy.cli.decide import actor, operations
from deploy.cli.groups import Group
from deploy.rules.names import short
from deploy.text import shown


@click.group(cls=Group)
def shadow() -> None:
    """Which candidate answers a copy of some turns, unseen: the controller chooses, and a person may choose otherwise."""


@shadow.command()
@click.argument("candidate")
@click.option("--reason", default="", help="A sentence for whoever asks later; needed.")
@pass_context(decides=True)
def start(context: Context, candidate: str, reason: str) -> None:
    """Put this candidate into the shadow, in place of the one that is there; also one that was there before.

    \b
    Example:
      trimtab shadow start 3f2a9c --reason "it reads better than the newer one"
    """
    with operations(context) as rules:
        view = rules.start_shadow(candidate, reason=reason, actor=actor())
    _say(context, view, f"{short(view['digest'])} is in the shadow: a copy of some turns goes to it, unseen")


@shadow.command()
@click.option("--reason", default="", help="A sentence for whoever asks later.")
@pass_context(decides=True)
def stop(context: Context, reason: str) -> None:
    """Take the candidate out of the shadow. It stays held, and comes back only with `trimtab shadow start`.

    \b
    Example:
      trimtab shadow stop --reason "the GPU is wanted elsewhere"
    """
    with operations(context) as rules:
        view = rules.stop_shadow(reason=reason, actor=actor())
    _say(context, view, f"{short(view['digest'])} is out of the shadow")


def shadow_lines(view: dict[str, Any]) -> Iterable[str]:
    """A shadow (as `described_shadow` has it) in two sentences: since when and how it ended, and what came of it."""
    name, since = short(view["candidate"]), view["since"][:16]
    if view["ended_at"] is None:
        yield f"{name} answers a copy of some turns, unseen, since {since}; until {view['latest_end'][:16]} at the latest"
    else:
        look = ": a person has to look" if view["outcome"] == "held" else ""
        yield f"{name} was in the shadow from {since} to {view['ended_at'][:16]} ({view['why']}){look}"
    last = f", the last at {view['last_pair_at'][:19]}" if view["last_pair_at"] else ""
    failures = ", ".join(f"{many:,} {why}" for why, many in view["failed"].items())
    yield f"{view['pairs']:,} pairs{last}" + (f"; no pair came of {failures}" if failures else "")


def _say(context: Context, document: dict[str, Any], sentence: str) -> None:
    if context.as_json:
        print_json(document)
    else:
        stdout.print(shown(sentence), soft_wrap=True)
