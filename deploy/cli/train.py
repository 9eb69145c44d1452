"""`trimtab train`: seal a snapshot now and train a candidate."""

from __future__ import annotations

from typing import Any

import click

from deploy.cli.common import Context, pass_context, print_json, stderr, stdout
from deploy.cli.progress import Steps
from deploy.errors import Refused
from deploy.parts import engine_in_use, operations
from deploy.roles.logs import configure
from deploy.rules.names import short
from deploy.text import shown
from deploy.training.train import as_before, earlier_seconds, forget, nothing_new, seal_now
from deploy.training.train import train as train_candidate


@click.command()
@click.option(
    "--reason", default="asked for on the command line", show_default=True, help="Recorded with the training."
)
@click.option(
    "--again", is_flag=True, help="Train from the beginning though nothing is new, and say whether the result is."
)
@pass_context()
def train(context: Context, reason: str, again: bool) -> None:
    """Seal a snapshot of the facts now, train a candidate on it, and let the gate decide.

    A training that was killed goes on at its checkpoints. The same facts, settings and base give the same candidate: where
    the last one came of them, it is named, and nothing is trained.

    \b
    Examples:
      trimtab train
      trimtab train --reason "new rubric" --json
      trimtab train --again
    """
    configure("train")
    state, settings, control = context.state, context.settings, context.control
    if not (engine := engine_in_use(state, settings.engine)).takes_adapters:
        raise Refused(
            f"this engine takes no adapters (engine.kind is {engine.kind!r}), so nothing that is trained could be served: "
            f"`trimtab dataset seal` makes a snapshot; a server that loads adapters is engine.kind = 'vllm'"
        )
    sealed = as_before(state, control, seal_now(state, settings, context.clock.now_us()))
    known = nothing_new(state, settings, control, sealed)
    if known is None or again:
        earlier = earlier_seconds(state, settings, control)
        if again:
            forget(state, settings, control, sealed)
        with Steps(stderr, context.clock) as steps:
            steps.compare(earlier)
            digest = train_candidate(state, settings, control, context.clock, sealed, reason, steps.at)
    else:
        digest = known
    view = operations(state, settings, control, context.clock).show(digest)
    if context.as_json:
        print_json(view | {"trained": known is None or again, "same_as_before": known and known == digest})
        return
    if known is not None and not again:
        stdout.print(f"nothing is new since candidate {short(known)} was trained: the same facts, settings and base would "
                     f"give it again (`--again` tries)", soft_wrap=True)  # fmt: skip
    else:
        _print_candidate(view, sealed.name, known)
    stdout.print(f"next: {view['next']}", markup=False, soft_wrap=True)


def _print_candidate(view: dict[str, Any], snapshot: str, known: str | None) -> None:
    stdout.print(f"[bold]Candidate[/bold] {short(view['digest'])} from snapshot {snapshot}")
    if known == view["digest"]:
        stdout.print("  the same as before, bit for bit")
    elif known is not None:
        stdout.print(f"  not {short(known)}, which came of the same facts, settings and base before: this machine, or torch, "
                     f"is another by now", soft_wrap=True)  # fmt: skip
    stdout.print(f"[bold]Gate: {view['gate']['decision']}[/bold]")
    for line in view["gate"]["reasons"]:
        stdout.print(f"  {shown(line)}")
