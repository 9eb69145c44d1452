"""`trimtab doctor`: checks what a deployment needs and says what to do about what is wrong."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Literal

import click

from deploy.cli.common import FAILED, Context, exit_code_of, pass_context, print_json, stdout
from deploy.cli.engine import base_name, checked_addresses
from deploy.cli.ports import taken_by
from deploy.cli.roles import ADMIN_OFFSET, ADMIN_PORT, PORT
from deploy.cli.roles_view import Seen, as_document, line, look
from deploy.cli.spools_view import abandoned_sentence
from deploy.control.keys import without_effect
from deploy.errors import Failed
from deploy.gateway.orphans import waiting
from deploy.parts import engine_in_use, engines_differ, load_rubric
from deploy.roles.others import SILENT
from deploy.roles.presence import who_is_there
from deploy.rules.schedule import NOT_TRAINED
from deploy.text import ago
from deploy.training.train import newest_event_us
from feedback.durable import LOW_BYTES, RESERVE_BYTES, free_bytes
from feedback.facts.reader import Facts
from feedback.judge.client import probe
from feedback.settings import KeyUnusable


@dataclass(frozen=True)
class Finding:
    """One check: what was looked at, how it stands, and what to do."""

    check: str
    outcome: Literal["ok", "warning", "failed"]
    sentence: str


@click.command()
@pass_context(looks=True)
def doctor(context: Context) -> int:
    """Check configuration, state directory, disk, log, control database, keys, judge, engine, roles, ports and base model.

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
        "keys": _keys,
        "events": _events,
        "rubric": _rubric,
        "judge": _judge,
        "engine": _engine,
        "roles": _roles,
        "ports": _ports,
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
    free = free_bytes(context.state.root)
    if free < RESERVE_BYTES:
        said = f"full, {free / 1e6:.0f} MB are left: nothing is learned, and turns are lost or refused; free some space now"
        return Finding("disk", "failed", said)
    if free < LOW_BYTES:
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


def _keys(context: Context) -> Finding:
    now_us = context.clock.now_us()
    valid = [key for key in context.control.keys.list() if key.valid(now_us)]
    if problems := [problem for key in valid if (problem := without_effect(key)) is not None]:
        return Finding("keys", "warning", "; ".join(problems))
    trusted = (
        "; whoever is on this machine needs none (access.trust_loopback)"
        if context.settings.access.trust_loopback
        else ""
    )
    return Finding("keys", "ok", f"{len(valid) or 'none'} valid{trusted}")


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


def _roles(context: Context) -> Finding:
    state = context.state
    seen = look(state.root)
    wrong = [sentence for one in seen if (sentence := _wrong_with(one)) is not None]
    known = {one.presence.pid for one in seen if one.alive and one.presence.is_here}
    for name, pid in state.held().items():
        if pid not in known and name.partition("-")[0] in ADMIN_OFFSET:
            wrong.append(_held_by(name, pid))
    if wrong:
        return Finding("roles", "warning", "; ".join(wrong))
    lines = map(line, as_document(seen, context.clock.now_us()))
    return Finding("roles", "ok", ", ".join(lines) or "none runs here: `trimtab up` starts all four")


def _wrong_with(seen: Seen) -> str | None:
    its = seen.presence
    who = f"the {its.name} (process {its.pid})"
    if not seen.alive:
        return f"{who} died: start it again (`trimtab up`, or `trimtab {its.role}`); its last lines of log say why"
    if seen.waits == SILENT:
        return f"{who} does not answer on {its.admin}: if it stays so it hangs, so stop it (kill {its.pid}) and start it again"
    return f"{who} is not ready: {seen.waits}" if seen.waits is not None and its.is_here else None


def _held_by(name: str, pid: int | None) -> str:
    if pid is None or not Path(f"/proc/{pid}").exists():
        gone = "which is unknown here" if pid is None else f"which was process {pid} and is gone"
        return f"the lock of the {name} is held by something that the {name} started, {gone}: stop what is left of it"
    return (
        f"process {pid} plays the {name} and does not say so (another version?): it can't be asked whether it is ready"
    )


def _ports(context: Context) -> Finding:
    """Whether a role that does not run here would find its usual ports free."""
    alive, _ = who_is_there(context.state.root)
    running = {presence.role for presence in alive}
    ours = {url.rpartition(":")[2] for presence in alive for url in (presence.admin, presence.chats) if url is not None}
    wanted = {("gateway", "--port"): PORT} | {
        (role, "--admin-port"): ADMIN_PORT + offset for role, offset in ADMIN_OFFSET.items()
    }
    taken = [
        f"{port}, where the {role} would listen, is taken by {other}: stop that, or start the {role} with another {option}"
        for (role, option), port in wanted.items()
        if role not in running and str(port) not in ours and (other := taken_by(port)) is not None
    ]
    if taken:
        return Finding("ports", "warning", "; ".join(taken))
    return Finding(
        "ports", "ok", "those of the roles that do not run are free" if len(running) < 4 else "all in use by us"
    )


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
