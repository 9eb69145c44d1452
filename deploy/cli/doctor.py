"""`trimtab doctor`: checks what a deployment needs and says what to do about what is wrong."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import Literal

import click

from deploy.cli.common import FAILED, Context, exit_code_of, pass_context, print_json, stdout
from deploy.cli.engine import base_name, checked_addresses
from deploy.cli.spools_view import abandoned_sentence
from deploy.errors import Failed
from deploy.gateway.orphans import waiting
from deploy.parts import engine_in_use, engines_differ, load_rubric
from deploy.rules.schedule import NOT_TRAINED
from deploy.text import ago
from deploy.training.train import newest_event_us
from feedback.facts.reader import Facts
from feedback.judge.client import probe
from feedback.settings import KeyUnusable

LOW_DISK_BYTES = 2_000_000_000


@dataclass(frozen=True)
class Finding:
    """One check: what was looked at, how it stands, and what to do."""

    check: str
    outcome: Literal["ok", "warning", "failed"]
    sentence: str


@click.command()
@pass_context(looks=True)
def doctor(context: Context) -> int:
    """Check configuration, state directory, disk, log, control database, judge, engine, gateways and base model.

    \b
    Examples:
      trimtab doctor
      trimtab doctor --json
    """
    findings = list(_findings(context))
    if context.as_json:
        print_json([asdict(finding) for finding in findings])
    else:
        styles = {"ok": "green", "warning": "yellow", "failed": "bold red"}
        for finding in findings:
            stdout.print(f"{finding.outcome:<8}", style=styles[finding.outcome], end="")
            stdout.print(f"{finding.check:<12} {finding.sentence}", markup=False, soft_wrap=True)
    return FAILED if any(finding.outcome == "failed" for finding in findings) else 0


def _findings(context: Context) -> Iterator[Finding]:
    yield Finding("version", "ok", f"trimtab {version('trimtab')}")
    checks: dict[str, Callable[[Context], Finding]] = {
        "config": _config,
        "state": _state,
        "disk": _disk,
        "log": _log,
        "control": _control,
        "events": _events,
        "rubric": _rubric,
        "judge": _judge,
        "engine": _engine,
        "gateways": _gateways,
        "base": _base,
    }
    for name, check in checks.items():
        try:
            yield check(context)
        except Exception as error:
            if (known := exit_code_of(error)) is None:
                raise
            yield Finding(name, "failed", known[1])
            if name in ("config", "state"):  # nothing else can be looked at without
                return


def _config(context: Context) -> Finding:
    source = context.config_path or "trimtab.toml, where there is one, and the environment"
    _ = context.settings
    return Finding("config", "ok", f"read from {source}")


def _state(context: Context) -> Finding:
    root = context.state.root
    if root.stat().st_mode & 0o077:
        return Finding("state", "warning", f"{root} can be read by others, and it holds raw chats: chmod 700 {root}")
    return Finding("state", "ok", str(root))


def _disk(context: Context) -> Finding:
    free = shutil.disk_usage(context.state.root).free
    if free < LOW_DISK_BYTES:
        return Finding(
            "disk", "warning", f"{free / 1e9:.1f} GB are left: free some before the log or a training fills it"
        )
    return Finding("disk", "ok", f"{free / 1e9:.0f} GB are left")


def _log(context: Context) -> Finding:
    topics = context.log.topics()
    return Finding("log", "ok", f"{len(topics)} topics" if topics else "empty")


def _control(context: Context) -> Finding:
    _ = context.control  # made, or refused, once
    return Finding("control", "ok", "the control database opens")


def _events(context: Context) -> Finding:
    try:
        newest_us = newest_event_us(Facts(context.state.facts))
    except Failed:
        return Finding("events", "warning", "no event yet: `trimtab replay FILE`, or send some to the gateway")
    return Finding("events", "ok", f"the newest is {ago((context.clock.now_us() - newest_us) / 1e6)}")


def _rubric(context: Context) -> Finding:
    return Finding("rubric", "ok", f"version {load_rubric(context.settings.judge).version}")


def _judge(context: Context) -> Finding:
    if not context.settings.judge.configured:
        sentence = "none is configured, so unrated turns stay unjudged: set judge.base_url and judge.model for one"
        return Finding("judge", "warning", sentence)
    if (unpriced := context.settings.judge.unpriced) is not None:
        return Finding("judge", "warning", unpriced)
    try:
        wrong = asyncio.run(probe(context.settings.judge, context.clock))
    except KeyUnusable as error:
        wrong = str(error)
    return Finding("judge", "failed", wrong) if wrong else Finding("judge", "ok", "answers and knows its model")


def _engine(context: Context) -> Finding:
    engine = engine_in_use(context.state, context.settings.engine)
    if engine.kind == "local":
        return Finding("engine", "ok", "local: a small model in the gateway's own process")
    checked = checked_addresses(engine, context.clock, quick=True)
    if wrong := [sentence for one in checked for sentence in one.wrong]:
        outcome: Literal["warning", "failed"] = "failed" if all(one.wrong for one in checked) else "warning"
        return Finding("engine", outcome, "; ".join(wrong))
    if unsure := [one.url for one in checked if not one.model_known]:  # a hosted API may be well all the same
        said = f"{', '.join(unsure)} can be reached but does not list {engine.model}: `trimtab engine check` asks it for a reply"
        return Finding("engine", "warning", said)
    more = "" if engine.takes_adapters else f"; {NOT_TRAINED}"
    return Finding("engine", "ok", f"{', '.join(engine.urls)} can be asked (`trimtab engine check` asks){more}")


def _gateways(context: Context) -> Finding:
    state = context.state
    wrong = [engines_differ(state), abandoned_sentence(left, state) if (left := waiting(state)) else None]
    if said := "; ".join(filter(None, wrong)):
        return Finding("gateways", "warning", said)
    running = sum(map(state.seated, state.seats()))
    return Finding("gateways", "ok", f"{running or 'none'} running, and no records are left of one that ended")


def _base(context: Context) -> Finding:
    if not engine_in_use(context.state, context.settings.engine).takes_adapters:
        return Finding("base", "ok", "none is needed beside this engine")
    try:
        return Finding("base", "ok", base_name(context) or "`tiny` will be trained with the first candidate")
    except Failed as error:  # a training is what mends it, as where there is none yet
        return Finding("base", "warning", str(error))
