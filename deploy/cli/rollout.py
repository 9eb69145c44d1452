"""`trimtab pause`, `resume`, `promote`, `rollback`, `halt`: the rollout from the command line."""

from __future__ import annotations

from typing import Any

import click

from deploy.cli.common import Context, pass_context, print_json, stdout
from deploy.cli.decide import actor, operations
from deploy.text import shown

reason_option = click.option("--reason", default="", help="A sentence for whoever reads the history later.")


@click.command()
@reason_option
@pass_context()
def pause(context: Context, reason: str) -> None:
    """Keep the canary at its share: no promotion until `trimtab resume`.

    \b
    Example:
      trimtab pause --reason "waiting for the weekend's ratings"
    """
    with operations(context) as rules:
        _answer(context, rules.pause(actor=actor(), reason=reason))


@click.command()
@reason_option
@pass_context()
def resume(context: Context, reason: str) -> None:
    """Lift the halt; where there is none, the pause.

    \b
    Example:
      trimtab resume --reason "it was the load balancer"
    """
    with operations(context) as rules:
        _answer(context, rules.resume(actor=actor(), reason=reason))


@click.command()
@reason_option
@pass_context()
def promote(context: Context, reason: str) -> None:
    """Move the approved candidate to its next share of conversations; from the last one it is the incumbent.

    \b
    Example:
      trimtab promote
    """
    with operations(context) as rules:
        _answer(context, rules.promote(actor=actor(), reason=reason))


@click.command()
@reason_option
@pass_context()
def rollback(context: Context, reason: str) -> None:
    """Take the candidate out of service; where no rollout is under way, go back to the earlier incumbent.

    \b
    Example:
      trimtab rollback --reason "answers in the wrong language"
    """
    with operations(context) as rules:
        _answer(context, rules.rollback(actor=actor(), reason=reason))


@click.command()
@reason_option
@pass_context()
def halt(context: Context, reason: str) -> None:
    """The kill switch: the bare base model serves everything until `trimtab resume`. Always possible.

    \b
    Example:
      trimtab halt --reason "something is badly wrong"
    """
    with operations(context) as rules:
        _answer(context, rules.halt(actor=actor(), reason=reason))


def _answer(context: Context, serving: dict[str, Any]) -> None:
    if context.as_json:
        print_json(serving)
        return
    for line in account(serving):
        stdout.print(shown(line))


def account(serving: dict[str, Any]) -> list[str]:
    """What is served now, and what to type next, line by line."""
    incumbent = name(serving["incumbent"])
    rollout = serving["rollout"]
    if serving["halted"]:
        return [
            f"HALTED: the bare base serves everything (else: {incumbent})",
            "next: trimtab rollback takes a rollout out for good, trimtab resume lifts the halt",
        ]
    if rollout is None:
        return [f"{incumbent} serves everything", "next: trimtab candidates"]
    candidate, share = rollout["candidate"][:12], rollout["share"]
    following = {
        "approved": "trimtab promote gives it its first share",
        "canary": "trimtab promote, pause or rollback",
        "paused": "trimtab resume, then promote; or rollback",
    }
    return [
        f"{incumbent} serves {(1 - share) * 100:g}%, {candidate} serves {share * 100:g}% ({rollout['state']})",
        f"next: {following[rollout['state']]}",
    ]


def name(digest: str | None) -> str:
    """How a policy is called in a sentence."""
    return digest[:12] if digest else "the bare base"
