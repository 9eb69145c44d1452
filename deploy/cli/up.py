"""`trimtab up`: the whole service on this machine."""

from __future__ import annotations

import signal
import sys
from functools import partial
from types import FrameType

import click

from deploy.cli.access import keys_needed, list_without_effect, trust_option
from deploy.cli.common import Context, pass_context, print_json, stdout
from deploy.cli.engine import base_name, no_base
from deploy.cli.engine_options import engine_options
from deploy.cli.roles import ADMIN_OFFSET, ADMIN_PORT, PORT, PORTS, refuse_unservable
from deploy.errors import Failed
from deploy.roles.logs import configure
from deploy.roles.supervisor import Child, supervise
from deploy.rules.schedule import NOT_TRAINED
from deploy.text import shown


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to serve chats on.")
@click.option("--port", type=PORTS, default=PORT, show_default=True, help="Port to serve chats on.")
@click.option("--admin-host", default="127.0.0.1", show_default=True, help="Address of the admin ports.")
@click.option(
    "--admin-port",
    type=click.IntRange(1, 65_535 - max(ADMIN_OFFSET.values())),
    default=ADMIN_PORT,
    show_default=True,
    help="The controller's; gateway, worker and trainer take the three after it.",
)
@trust_option
@engine_options
@pass_context()
def up(context: Context, host: str, port: int, admin_host: str, admin_port: int) -> int:
    """Run the whole service on this machine: gateway, worker, trainer and controller. Prints its addresses once ready.

    A role that dies is started again. Ctrl-C or SIGTERM stops all of them, requests under way being finished.

    \b
    Examples:
      trimtab up
      trimtab up --engine http://127.0.0.1:8000/v1 --model my-model
      trimtab up --engine https://api.example.com/v1 --model gpt-x --engine-key-file key.txt
      trimtab up --port 9000 --admin-port 9001 --state /var/lib/trimtab
    """
    configure("up")
    _ = context.settings  # mistakes in the configuration are said here, once
    with context.state.lock("up"):
        _refuse_other_players(context)
        keys_needed(context, host)
        keys_needed(context, admin_host)
        list_without_effect(context)
        refuse_unservable(context)  # the control database is made, or refused, once
        stopping: list[int] = []

        def stop(number: int, _: FrameType | None) -> None:
            stopping.append(number)

        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, stop)
        common = ["--state", str(context.state.root), "--admin-host", admin_host]
        if context.config_path is not None:
            common += ["--config", str(context.config_path)]
        shown = "127.0.0.1" if admin_host in ("0.0.0.0", "::") else admin_host  # noqa: S104 (how we reach ourselves)
        chats = ["--host", host, "--port", str(port)]
        for name in ADMIN_OFFSET.keys() - {"gateway"}:
            reached = f"[{shown}]" if ":" in shown else shown
            chats += ["--other", f"{name}=http://{reached}:{admin_port + ADMIN_OFFSET[name]}"]
        children = []
        for name, offset in ADMIN_OFFSET.items():
            its = chats if name == "gateway" else []
            children.append(Child(name, [*common, "--admin-port", str(admin_port + offset), *its]))
        if not context.as_json:
            _say_what_is_prepared(context)
        ready = partial(_say_addresses, context, f"http://{host}:{port}/v1", f"http://{shown}", admin_port)
        return supervise(children, lambda: bool(stopping), ready, context.settings.process.stop_within_s, context.clock)


def _say_what_is_prepared(context: Context) -> None:
    """At once: it takes seconds until the roles are ready."""
    stdout.print(f"starting {', '.join(ADMIN_OFFSET)}")
    stdout.print(shown(_engine(context)), soft_wrap=True)
    sys.stdout.flush()


def _engine(context: Context) -> str:
    engine = context.settings.engine
    if engine.kind != "local":
        more = (
            f"; {NOT_TRAINED}"
            if not engine.takes_adapters
            else ", and adapters are loaded there as they are rolled out"
        )
        return f"chats are answered by {engine.model} at {', '.join(engine.urls)}{more}"
    try:
        name = base_name(context)
    except Failed as error:  # the gateway says it too, and goes on waiting
        return str(error)
    return (
        f"the base is {no_base(context)}"
        if name is None
        else f"the base {name} is being loaded; events are taken meanwhile"
    )


def _refuse_other_players(context: Context) -> None:
    """Raises Refused where a process plays one of the roles: ours could not, and its answers are not ours."""
    shared = {
        "gateway",
        *(["worker"] if context.settings.broker.on_kafka else []),
    }  # there workers share the partitions
    for name in ADMIN_OFFSET.keys() - shared:
        with context.state.lock(name):
            pass


def _say_addresses(context: Context, chat: str, admin_host: str, admin_port: int) -> None:
    metrics = {name: f"{admin_host}:{admin_port + offset}/metrics" for name, offset in ADMIN_OFFSET.items()}
    if context.as_json:
        print_json({"chat": chat, "admin": f"{admin_host}:{admin_port}", "metrics": metrics})
    else:
        stdout.print(f"[bold]chat[/bold]     {chat}  (OpenAI-compatible)")
        stdout.print(f"[bold]admin[/bold]    {admin_host}:{admin_port}/docs")
        stdout.print(f"[bold]metrics[/bold]  {'  '.join(metrics.values())}")
        stdout.print("Ctrl-C stops it; `trimtab status` says where the loop stands")
    sys.stdout.flush()
