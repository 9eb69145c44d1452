"""`trimtab candidates`, `show`, `approve`, `reject`: what was trained, what the gate says of it, and a person's answer."""

from __future__ import annotations

import sys
from typing import Any

import click
from rich.table import Table

from deploy.cli.candidate_view import print_candidate
from deploy.cli.common import LIMIT, Context, pass_context, print_json, stderr, stdout
from deploy.cli.decide import actor, operations
from deploy.cli.rollout import account
from deploy.control.trainings import PREFIX
from deploy.decisions.looking import PAGE
from deploy.decisions.operations import Operations
from deploy.errors import Refused
from deploy.rules.names import percent, short
from deploy.text import ago, shown


@click.command()
@click.option("--limit", type=LIMIT, default=PAGE, show_default=True, help="Candidates to list.")
@click.option("--after", metavar="CANDIDATE", help="Only those that come after this one in the list.")
@pass_context(looks=True)
def candidates(context: Context, limit: int, after: str | None) -> None:
    """List the candidates, newest first, as they were last sealed. Looking changes nothing.

    \b
    Examples:
      trimtab candidates
      trimtab candidates --limit 10 --after 3f2a9c --json
    """
    with operations(context) as rules:
        found, serving, unknown = rules.candidates(limit, after), rules.serving(), rules.unregistered()
    if unknown:
        names = ", ".join(shown(short(name)) for name in unknown[:5]) + (" …" if len(unknown) > 5 else "")
        stderr.print(
            f"not in the list yet: {names} (`trimtab show` takes it in, and so does `trimtab up`)", soft_wrap=True
        )
    if context.as_json:
        print_json(found)
        return
    if not found:
        stdout.print("there are no candidates yet: trimtab train makes one")
        return
    table = Table("candidate", "created", "snapshot", "state", "share", "gate", "sealed")
    for view in found:
        decision = view["gate"]["decision"] if view["gate"] else "?"
        table.add_row(
            short(view["digest"]),
            view["created_at"][:16].replace("T", " "),
            shown(view["snapshot"], 24),
            view["state"],
            percent(view["share"]),
            decision,
            ago(view["evidence_age_s"]) if view["evidence_age_s"] is not None else "never",
        )
    stdout.print(table)
    for line in account(serving):
        stdout.print(shown(line), soft_wrap=True)


@click.command()
@click.argument("candidate")
@pass_context(decides=True)
def show(context: Context, candidate: str) -> None:
    """All about one candidate: samples beside the incumbent's, and why the gate decided as it did.

    \b
    Example:
      trimtab show 3f2a9c
    """
    with operations(context) as rules:
        _discover(rules)
        view = rules.show(candidate)
    if context.as_json:
        print_json(view)
    else:
        print_candidate(stdout, view)


@click.command()
@click.argument("candidate")
@click.option(
    "--evidence", metavar="SEAL", help="The seal that `trimtab show` printed: what you approve is what you saw."
)
@click.option("--reason", default="", help="A sentence for whoever asks later.")
@click.option("--override-hold", is_flag=True, help="Approve although the gate holds it; needs a reason.")
@pass_context(decides=True)
def approve(context: Context, candidate: str, evidence: str | None, reason: str, override_hold: bool) -> None:
    """Say yes to a candidate's rollout (or to training-N, where trainings need a yes).

    Without --evidence it shows the candidate and asks, on a terminal; elsewhere it refuses.

    \b
    Examples:
      trimtab approve 3f2a9c
      trimtab approve 3f2a9c --evidence 91b0d2c4e8aa --reason "samples read well"
    """
    with operations(context) as rules:
        if candidate.startswith(PREFIX):
            answer = rules.answer_training(candidate, "approved", reason=reason, actor=actor())
            _say(context, {"training": answer.name, "answer": "approved"}, f"{answer.name} is approved")
            return
        _discover(rules)
        if evidence is None:
            evidence, reason = _ask(rules, candidate, reason, override_hold)
        view = rules.approve(candidate, evidence=evidence, reason=reason, actor=actor(), override_hold=override_hold)
        following = rules.serving()["next"]
    _say(context, view, f"{short(view['digest'])} is approved\nnext: {following}")


@click.command()
@click.argument("candidate")
@click.option("--reason", default="", help="A sentence for whoever trains next; needed.")
@pass_context(decides=True)
def reject(context: Context, candidate: str, reason: str) -> None:
    """Say no to a candidate, for good (or to training-N).

    \b
    Example:
      trimtab reject 3f2a9c --reason "invents order numbers"
    """
    with operations(context) as rules:
        if candidate.startswith(PREFIX):
            answer = rules.answer_training(candidate, "rejected", reason=reason, actor=actor())
            _say(context, {"training": answer.name, "answer": "rejected"}, f"{answer.name} is rejected")
            return
        _discover(rules)
        view = rules.reject(candidate, reason=reason, actor=actor())
    _say(context, view, f"{short(view['digest'])} is rejected")


@click.command("object")
@click.argument("candidate")
@click.option("--reason", default="", help="A sentence for whoever wants to go on; needed.")
@click.option("--withdraw", is_flag=True, help="End all objections to it.")
@pass_context(decides=True)
def object_(context: Context, candidate: str, reason: str, withdraw: bool) -> None:
    """Object to a candidate: it is not approved and gets no further share until the objection is withdrawn.

    What it serves already it goes on to serve: `trimtab rollback` takes it out.

    \b
    Examples:
      trimtab object 3f2a9c --reason "flatters people who are wrong, see order K-472"
      trimtab object 3f2a9c --withdraw --reason "seen together: that prompt was ours"
    """
    with operations(context) as rules:
        _discover(rules)
        view = rules.object(candidate, reason=reason, actor=actor(), withdraw=withdraw)
    said = "nobody objects any more" if withdraw else "it is blocked until the objection is withdrawn"
    _say(context, view, f"{short(view['digest'])}: {said}")


def _discover(rules: Operations) -> None:
    """Take in what lies in the candidates' folder and is not in the list yet; what can't be is said."""
    for problem in rules.discover():
        stderr.print(shown(problem), soft_wrap=True)


def _ask(rules: Operations, candidate: str, reason: str, override_hold: bool) -> tuple[str, str]:
    """Show the evidence and ask; returns its seal and the reason."""
    view = rules.show(candidate)
    name = short(view["digest"])
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise Refused(
            f"nobody is here to ask: look with `trimtab show {name}`, then add --evidence with the seal it prints"
        )
    print_candidate(stdout, view)
    if view["gate"]["decision"] == "reject":
        raise Refused(f"the gate rejected {name}, nobody can approve it")
    if view["gate"]["decision"] == "hold" and not override_hold:
        raise Refused(f"the gate holds {name}: add --override-hold if you know better")
    click.confirm(f"Start the rollout of {name}?", abort=True)
    return view["evidence"], reason or click.prompt("Reason, for whoever asks later")


def _say(context: Context, document: dict[str, Any], sentence: str) -> None:
    if context.as_json:
        print_json(document)
    else:
        stdout.print(shown(sentence), soft_wrap=True)
