"""`trimtab train`: seal a snapshot now and train a candidate."""

from __future__ import annotations

import click

from deploy.cli.common import Context, pass_context, print_json, stderr, stdout
from deploy.cli.progress import Steps
from deploy.errors import Refused
from deploy.parts import engine_in_use, operations
from deploy.roles.logs import configure
from deploy.rules.names import short
from deploy.text import shown
from deploy.training.train import seal_now
from deploy.training.train import train as train_candidate


@click.command()
@click.option(
    "--reason", default="asked for on the command line", show_default=True, help="Recorded with the training."
)
@pass_context()
def train(context: Context, reason: str) -> None:
    """Seal a snapshot of the facts now, train a candidate on it, and let the gate decide.

    A training that was killed goes on at its checkpoints; the same snapshot and settings give the same candidate.

    \b
    Examples:
      trimtab train
      trimtab train --reason "new rubric" --json
    """
    configure("train")
    control = context.control
    if not (engine := engine_in_use(context.state, context.settings.engine)).takes_adapters:
        raise Refused(
            f"this engine takes no adapters (engine.kind is {engine.kind!r}), so nothing that is trained could be served: "
            f"`trimtab dataset seal` makes a snapshot; a server that loads adapters is engine.kind = 'vllm'"
        )
    with Steps(stderr, context.clock) as steps:
        sealed = seal_now(context.state, context.settings, context.clock.now_us())
        digest = train_candidate(context.state, context.settings, control, context.clock, sealed, reason, steps.at)
    view = operations(context.state, context.settings, control, context.clock).show(digest)
    if context.as_json:
        print_json(view)
        return
    stdout.print(f"[bold]Candidate[/bold] {short(digest)} from snapshot {sealed.name}")
    stdout.print(f"[bold]Gate: {view['gate']['decision']}[/bold]")
    for line in view["gate"]["reasons"]:
        stdout.print(f"  {shown(line)}")
    stdout.print(f"next: {view['next']}", markup=False, soft_wrap=True)
