"""`trimtab label`: people say which of two replies is better, and don't know which one is the candidate's."""

from __future__ import annotations

import secrets
from contextlib import closing
from dataclasses import asdict
from typing import get_args

import click

from deploy.cli.common import Context, pass_context, print_json, stdout
from deploy.cli.decide import actor
from deploy.cli.keyboard import Keyboard, keyboard
from deploy.cli.label_view import KEYS, farewell, headline, print_pair
from deploy.control.labelling import Labelling
from deploy.decisions.operations import one_line
from deploy.errors import Refused
from deploy.rules.labelling import Answer, Progress, Question, told
from deploy.text import shown
from feedback.clock import Clock

ANSWERS: dict[str, Answer] = {"1": "first", "2": "second", "0": "tie", "s": "skip"}
SAID: dict[Answer, str] = {
    "first": "the first is better",
    "second": "the second is better",
    "tie": "no difference",
    "skip": "skipped",
}


class Labeller:
    """One person who labels."""

    def __init__(self, labelling: Labelling, name: str, clock: Clock) -> None:
        self._labelling, self._clock, self.name = labelling, clock, name

    def next(self) -> Question | None:
        """The pair that is asked about now."""
        return self._labelling.next(self.name, None, self._clock.now_us(), secrets.SystemRandom().random())

    def answer(self, pair_id: str, answer: Answer, reason: str) -> None:
        """Store it. Raises Refused and UnknownPair."""
        self._labelling.answer(pair_id, self.name, None, answer, self._clock.now_us(), one_line(reason))

    def progress(self) -> Progress:
        """How far all is."""
        return self._labelling.progress(self.name, None, self._clock.now_us())

    def leave(self) -> None:
        """Somebody else may have the place."""
        self._labelling.leave(self.name)


@click.command()
@click.option("--as", "name", default=None, help="Who labels [default: your login name].")
@click.option(
    "--answer", "given", type=(str, click.Choice(get_args(Answer))), metavar="ID ANSWER", default=None,
    help="Answer the pair of this id, without a terminal: first, second, tie or skip.",
)  # fmt: skip
@click.option("--reason", default="", help="With --answer: why, in words.")
@pass_context(decides=True)
def label(context: Context, name: str | None, given: tuple[str, Answer] | None, reason: str) -> None:
    """Compare two replies blindly: which is better, the candidate's or the incumbent's, not knowing which is which.

    One pair at a time, one key each; several people may label at once. What was said stays: the gate counts it. With --json it
    prints the next pair, for programs that ask people themselves.

    \b
    Examples:
      trimtab label
      trimtab label --as anna
      trimtab label --as anna --json
      trimtab label --as anna --answer 0f3a51c09d8e4b7f9c6a2d1e5b8f7a30 first --reason "it answers the question"
    """
    if reason and given is None:
        raise click.UsageError("--reason goes with --answer")
    who = one_line(name) if name is not None else actor()
    with closing(context.control) as control:
        labeller = Labeller(control.labelling, who, context.clock)
        if given is not None:
            labeller.answer(*given, reason)
            _say_stored(context, given, labeller.progress())
        elif context.as_json:
            print_json(told(labeller.next(), labeller.progress()))
        else:
            _session(labeller)


def _say_stored(context: Context, given: tuple[str, Answer], progress: Progress) -> None:
    if context.as_json:
        print_json({"id": given[0], "answer": given[1], "progress": asdict(progress)})
    else:
        stdout.print(f"stored: {SAID[given[1]]}\n{headline(progress)}", soft_wrap=True)


def _session(labeller: Labeller) -> None:
    """One pair after another, until nothing is left or somebody wants to stop."""
    done, said, stopped = 0, f"you are {shown(labeller.name, 100)}", False
    with keyboard() as keys:
        try:
            while (pair := labeller.next()) is not None:
                keys.forget()
                if stdout.is_terminal:
                    stdout.clear()
                stdout.print(said, soft_wrap=True)
                if stopped := (answer := _ask(keys, pair, labeller.progress())) is None:
                    break
                try:
                    labeller.answer(pair.id, *answer)
                    done, said = done + 1, f"stored: {SAID[answer[0]]}"
                except Refused as why:
                    said = shown(str(why))
        except KeyboardInterrupt:
            stopped = True
        labeller.leave()
    if stopped:
        stdout.print(f"{done} labelled now; `trimtab label` goes on where you stopped", soft_wrap=True)
    else:
        progress = labeller.progress()
        stdout.print(f"{said}\n{headline(progress)}\n{farewell(progress)}", soft_wrap=True)


def _ask(keys: Keyboard, pair: Question, progress: Progress) -> tuple[Answer, str] | None:
    """Show the pair; the answer with its reason, or None where somebody wants to stop."""
    reason = ""
    print_pair(stdout, pair, progress, whole=False)
    while (key := keys.key()) not in (None, "q"):
        if key in ANSWERS:
            return ANSWERS[key], reason
        if key == "e":
            stdout.print("why, in words (Enter ends it): ", end="")
            reason = keys.line()
            stdout.print(KEYS)
        elif key == "a":
            print_pair(stdout, pair, progress, whole=True)
        elif key:
            stdout.print(KEYS)
    return None
