"""`trimtab engine`: what replies come from."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from deploy.cli.common import FAILED, Context, pass_context, print_json, stdout
from deploy.cli.groups import Group
from deploy.errors import Failed
from deploy.parts import engine_in_use
from deploy.rules.schedule import NOT_TRAINED
from deploy.serving_settings import EngineSettings
from deploy.state import State
from deploy.text import shown
from feedback.clock import Clock
from feedback.settings import KeyUnusable, read_key
from models.bases import SMOLLM2, TINY, served_base
from models.errors import JobFailed

if TYPE_CHECKING:
    from deploy.engine.checking import Checked

_MADE = {
    TINY: "trained with the first candidate",
    SMOLLM2: "fetched and converted once (SmolLM2-135M-Instruct, licence Apache-2.0, 93 MB)",
}


@click.group(cls=Group)
def engine() -> None:
    """What replies come from, as [engine] in trimtab.toml says.

    \b
    Examples:
      trimtab engine check
      trimtab engine check --json
    """


@engine.command()
@pass_context(looks=True)
def check(context: Context) -> int:
    """Ask each address of the engine as chats will ask it, and say what is wrong and what to do.

    It asks for the models, for a reply of one token, and for a streamed one. While a gateway runs, the engine is the one that
    it asks, also where `--engine` named it.
    """
    settings = engine_in_use(State(context.state_path), context.settings.engine)  # there need be none yet
    if settings.kind == "local":
        return _check_local(context)
    checked = checked_addresses(settings, context.clock)
    if context.as_json:
        print_json({"kind": settings.kind, "model": settings.model, "addresses": [_document(one) for one in checked]})
    else:
        for one in checked:
            _print(one, settings)
        if not settings.takes_adapters:
            stdout.print(NOT_TRAINED)
    return FAILED if any(one.wrong for one in checked) else 0


def checked_addresses(settings: EngineSettings, clock: Clock, *, quick: bool = False) -> Sequence[Checked]:
    """Every address, tried; raises Failed where the key can't be one."""
    from deploy.engine.checking import check_engine

    try:
        key = read_key("engine", settings.api_key, settings.api_key_file)
    except KeyUnusable as error:
        raise Failed(str(error)) from None
    return asyncio.run(check_engine(settings, key, clock, quick=quick))


def base_name(context: Context) -> str | None:
    """The base that a local engine, or candidates, rest on; None: none was trained yet. Raises Failed."""
    try:
        base = served_base(context.settings.base, context.settings.tiny, context.state_path.absolute())
    except JobFailed as error:
        raise Failed(str(error)) from None
    return base.name if base is not None else None


def no_base(context: Context) -> str:
    """What is said where there is none yet."""
    name = context.settings.base.name
    return f"`{name}`, which will be {_MADE[name]}; until then events are taken and chats wait"


def _check_local(context: Context) -> int:
    name = base_name(context)
    if context.as_json:
        print_json({"kind": "local", "base": name})
    else:
        stdout.print(
            f"local: a small model in the gateway's own process; the base is {name or no_base(context)}", soft_wrap=True
        )
    return 0


def _document(checked: Checked) -> dict[str, Any]:
    return asdict(checked) | {"adapters": checked.adapters}


def _print(checked: Checked, settings: EngineSettings) -> None:
    stdout.print(shown(checked.url), style="bold", soft_wrap=True)
    first = f"{checked.first_word_s:.2f} s" if checked.first_word_s is not None else None
    rows: dict[str, bool | str | None] = {
        "reachable": checked.reachable,
        "key accepted": checked.key_accepted,
        f"model {settings.model} known": checked.model_known,
        "streams, with [DONE]": checked.streams,
        "usage in streams": checked.usage_in_streams,
        "first word after": first,
    }
    if settings.kind == "vllm":
        rows["loads adapters"] = checked.loads_adapters
        rows["adapters it has"] = ", ".join(checked.adapters) or "none"
    for name, value in rows.items():
        said = {True: "yes", False: "NO", None: "not found out"}.get(value, value)  # type: ignore[arg-type]
        stdout.print(f"  {shown(name):<28} {shown(str(said))}", soft_wrap=True)
    for sentence in checked.wrong:
        stdout.print(f"  {shown(sentence)}", style="bold red", soft_wrap=True)
