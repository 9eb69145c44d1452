"""`trimtab replay`: recorded events through the whole loop, and an account of every one of them."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import click

from deploy.cli.common import Context, pass_context, print_json, stderr, stdout
from deploy.cli.judge import consent
from deploy.cli.progress import Steps
from deploy.control.store import Control
from deploy.errors import Failed
from deploy.parts import engine_in_use, operations
from deploy.replay.account import account, print_account
from deploy.replay.intake import Intake
from deploy.replay.run import run
from deploy.roles.logs import configure
from deploy.rules.schedule import NOT_TRAINED
from deploy.training.base import BASES, Choice, choose_base, note_base, quickly, sentence, with_base
from deploy.training.train import Sealed, earlier_seconds, newest_event_us, seal_now, train
from feedback.facts.reader import Facts
from feedback.intake.contract import time_us
from models.bases import SMOLLM2, TINY
from models.errors import JobFailed
from models.processor import has_bf16
from models.smollm2 import FETCHING, install_smollm2


@click.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--no-train", is_flag=True, help="Stop at the sealed snapshot.")
@click.option(
    "--base",
    type=click.Choice(BASES),
    help="What to train on [default: smollm2, SmolLM2-135M-Instruct, where the processor has bf16 and the Python registry "
    "can be reached; else tiny, the small model for tests]. Later commands in this state directory go by it.",
)
@click.option(
    "--as-of", metavar="TIME", help="Seal the facts as of this moment (RFC 3339) [default: the newest event]."
)
@click.option("--yes", is_flag=True, help="Ask the judge about what nobody rated, whatever it is estimated to cost.")
@pass_context()
def replay(
    context: Context, files: tuple[Path, ...], no_train: bool, base: str | None, as_of: str | None, yes: bool
) -> None:
    """Feed recorded events (.jsonl, .jsonl.gz) through the loop and print what came of them.

    With an engine that takes no adapters it stops at the sealed snapshot. Replaying a file twice changes nothing, and a replay
    that was killed goes on where it was. Unless base.name is set, its training is a short one, of a few hundred labels, for a
    first look; `trimtab train` learns from all of them.

    What nobody rated goes to the judge, where one is configured, after it was shown what that will come to: on a terminal it is
    asked for, elsewhere --yes is needed; a judge that costs nothing is asked at once.

    \b
    Examples:
      trimtab replay examples/support.jsonl.gz
      trimtab replay --base tiny examples/support.jsonl.gz
      trimtab replay --no-train --json monday.jsonl.gz tuesday.jsonl.gz
    """
    configure("replay")
    given_us = None if as_of is None else _given(as_of, context.clock.now_us())
    control = context.control
    choice = choose_base(context.configured, context.state, base, has_bf16())
    if base not in (None, choice.name):
        raise click.UsageError(f"--base {base}, and base.name is {choice.name!r} in the settings, which all commands go by: "
                               f"change it there")  # fmt: skip
    seconds: dict[str, float] = {}
    with Steps(stderr, context.clock) as steps:
        started = context.clock.monotonic_s()
        taken = _take_in(context, control, files, steps, yes)
        seconds["ingest"] = context.clock.monotonic_s() - started
        as_of_us = newest_event_us(Facts(context.state.facts)) if given_us is None else given_us
        sealed = seal_now(context.state, context.settings, as_of_us)
        seconds["seal"] = context.clock.monotonic_s() - started - seconds["ingest"]
        candidate = None
        trains = not no_train and engine_in_use(context.state, context.settings.engine).takes_adapters
        if trains:
            candidate = _train(context, choice, control, sealed, steps)
            seconds["train"] = context.clock.monotonic_s() - started - seconds["ingest"] - seconds["seal"]
    document = account(taken, sealed, seconds, candidate)
    if context.as_json:
        print_json(document)
    else:
        print_account(stdout, document, candidate)
        if not trains and not no_train:
            stdout.print(NOT_TRAINED, soft_wrap=True)
        following = candidate["next"] if candidate is not None else f"trimtab dataset show {sealed.name}"
        stdout.print(f"next: {following}", markup=False, style="bold", soft_wrap=True)


def _take_in(context: Context, control: Control, files: tuple[Path, ...], steps: Steps, yes: bool) -> Intake:
    total = sum(path.stat().st_size for path in files)
    with context.state.lock("worker"):
        return asyncio.run(
            run(
                files,
                context.state,
                context.settings,
                control,
                context.clock,
                lambda step, done, of: steps.at(step, done, of or total),
                consent=consent(context, yes, steps),
            )
        )


def _train(context: Context, choice: Choice, control: Control, sealed: Sealed, steps: Steps) -> dict[str, Any]:
    choice = _at_hand(context, choice, steps)
    settings = with_base(context.configured, choice.name)
    if choice.name == SMOLLM2 and choice.by != "setting":
        settings = quickly(settings)
    if (said := sentence(choice, settings, has_bf16())) is not None:
        stderr.print(said, markup=False, soft_wrap=True)
    steps.compare(earlier_seconds(context.state, settings, control))
    digest = train(context.state, settings, control, context.clock, sealed, "replay", steps.at)
    if choice.by != "setting":
        note_base(context.state.root, choice.name)
    return operations(context.state, settings, control, context.clock).show(digest)


def _at_hand(context: Context, choice: Choice, steps: Steps) -> Choice:
    """The choice, or `tiny` where nobody asked for SmolLM2 and it can't be had."""
    if (choice.name, choice.by) != (SMOLLM2, "default"):
        return choice  # who asked for it is told by the training what is in the way
    try:
        install_smollm2(context.state.root, lambda here, of: steps.at(FETCHING, here, of))
    except JobFailed as error:
        stderr.print(f"going on with `tiny`, the small model for tests: {error}", markup=False, soft_wrap=True)
        return Choice(TINY, "default")
    return choice


def _given(text: str, now_us: int) -> int:
    try:
        at_us = time_us(text)
    except ValueError as error:
        raise click.BadParameter(f"{text!r} {error}", param_hint="--as-of") from None
    if at_us > now_us:
        raise Failed(f"--as-of {text} lies in the future: name a moment that is over")
    if at_us < 0:
        raise Failed(f"--as-of {text} lies before 1970, and no event does: name a later moment")
    return at_us
