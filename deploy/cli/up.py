"""`trimtab up`: the whole service on this machine."""

from __future__ import annotations

import signal
import sys
from types import FrameType

import click

from deploy.cli.common import Context, pass_context, print_json, stdout
from deploy.cli.roles import ADMIN_OFFSET, ADMIN_PORT, PORT, PORTS, keys_needed
from deploy.roles.logs import configure
from deploy.roles.supervisor import Child, supervise


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
@pass_context()
def up(context: Context, host: str, port: int, admin_host: str, admin_port: int) -> int:
    """Run the whole service on this machine: gateway, worker, trainer and controller. Prints its addresses once ready.

    A role that dies is started again. Ctrl-C or SIGTERM stops all of them, requests under way being finished.

    \b
    Examples:
      trimtab up
      trimtab up --port 9000 --admin-port 9001 --state /var/lib/trimtab
    """
    configure("up")
    _ = context.settings  # mistakes in the configuration are said here, once
    keys_needed(context, host)
    keys_needed(context, admin_host)
    _ = context.control  # made, or refused, once
    stopping: list[int] = []

    def stop(number: int, _: FrameType | None) -> None:
        stopping.append(number)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    shown = "127.0.0.1" if admin_host in ("0.0.0.0", "::") else admin_host  # noqa: S104 (how we reach ourselves)
    common = ["--state", str(context.state.root), "--admin-host", admin_host]
    if context.config_path is not None:
        common += ["--config", str(context.config_path)]
    children = []
    for name, offset in ADMIN_OFFSET.items():
        arguments = [*common, "--admin-port", str(admin_port + offset)]
        if name == "gateway":
            arguments += ["--host", host, "--port", str(port)]
        children.append(Child(name, arguments, f"http://{shown}:{admin_port + offset}"))

    def ready() -> None:
        addresses = {"chat": f"http://{host}:{port}/v1", "admin": f"http://{shown}:{admin_port}"}
        metrics = {role.name: f"{role.admin_url}/metrics" for role in children}
        if context.as_json:
            print_json({**addresses, "metrics": metrics})
        else:
            stdout.print(f"[bold]chat[/bold]     {addresses['chat']}  (OpenAI-compatible)")
            stdout.print(f"[bold]admin[/bold]    {addresses['admin']}/docs")
            stdout.print(f"[bold]metrics[/bold]  {'  '.join(metrics.values())}")
            stdout.print("Ctrl-C stops it; `trimtab status` says where the loop stands")
        sys.stdout.flush()

    with context.state.lock("up"):
        return supervise(children, lambda: bool(stopping), ready, context.settings.process.stop_within_s, context.clock)
