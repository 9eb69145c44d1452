"""`trimtab worker|trainer|controller|gateway`: one role in this process, for many machines (`trimtab up` runs all four)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from functools import partial
from typing import TYPE_CHECKING

import click

from deploy.cli.access import keys_needed, list_without_effect, trust_option
from deploy.cli.common import Context, pass_context
from deploy.cli.engine_options import engine_options
from deploy.decisions.operations import Operations
from deploy.roles.lifeline import Lifeline
from deploy.roles.logs import configure

if TYPE_CHECKING:
    from deploy.roles.role import Role

ADMIN_PORT = 8401
PORT = 8400
PORTS = click.IntRange(0, 65_535)
ADMIN_OFFSET = {"controller": 0, "gateway": 1, "worker": 2, "trainer": 3}
"""Embedded, each role serves its admin port this far above --admin-port."""

supervised = click.option("--supervised", is_flag=True, hidden=True, help="Stdin is the lifeline of `trimtab up`.")
admin_host = click.option("--admin-host", default="127.0.0.1", show_default=True, help="Address of the admin port.")


def admin_port(role: str) -> Callable[[Callable[..., object]], Callable[..., object]]:
    """The option for one role's admin port."""
    return click.option(
        "--admin-port",
        type=PORTS,
        default=ADMIN_PORT + ADMIN_OFFSET[role],
        show_default=True,
        help="Serves /metrics, /healthz, /readyz.",
    )


@click.command()
@admin_host
@admin_port("worker")
@supervised
@pass_context(with_json=False)
def worker(context: Context, admin_host: str, admin_port: int, supervised: bool) -> None:
    """Take events into the facts and send unrated turns to the judge.

    \b
    Example:
      trimtab worker --state /var/lib/trimtab
    """
    from deploy.roles.worker import run_worker  # `trimtab up`, which only starts the roles, does without what they need

    _play(context, "worker", (admin_host, admin_port), run_worker, supervised)


@click.command()
@admin_host
@admin_port("trainer")
@supervised
@pass_context(with_json=False)
def trainer(context: Context, admin_host: str, admin_port: int, supervised: bool) -> None:
    """Retrain when the rules in [train] say so.

    \b
    Example:
      trimtab trainer --state /var/lib/trimtab
    """
    from deploy.roles.trainer import run_trainer

    _play(context, "trainer", (admin_host, admin_port), run_trainer, supervised)


@click.command()
@admin_host
@admin_port("controller")
@trust_option
@supervised
@pass_context(with_json=False)
def controller(context: Context, admin_host: str, admin_port: int, supervised: bool) -> None:
    """Serve the admin API and the figures of candidates and rollout.

    \b
    Example:
      trimtab controller --admin-port 8401
    """
    from deploy.roles.controller import run_controller

    keys = keys_needed(context, admin_host)
    _play(context, "controller", (admin_host, admin_port), partial(run_controller, require_keys=keys), supervised)


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to serve chats on.")
@click.option("--port", type=PORTS, default=PORT, show_default=True, help="Port to serve chats on.")
@engine_options
@admin_host
@admin_port("gateway")
@trust_option
@click.option("--other", "others", multiple=True, hidden=True, help="ROLE=URL of a role that /readyz speaks for too.")
@supervised
@pass_context(with_json=False)
def gateway(
    context: Context, host: str, port: int, admin_host: str, admin_port: int, others: tuple[str, ...], supervised: bool
) -> None:
    """Serve chats: the OpenAI-compatible front door. Several may serve from one state directory, each on ports of its own.

    \b
    Examples:
      trimtab gateway --host 0.0.0.0 --port 8400
      trimtab gateway --port 8410 --admin-port 8412
      trimtab gateway --engine http://127.0.0.1:8000/v1 --model my-model
    """
    from deploy.roles.gateway import run_gateway, settle
    from deploy.roles.others import OtherRoles
    from deploy.web.serving import listen

    keys = keys_needed(context, host)
    refuse_unservable(context)

    async def work(role: Role, stop: asyncio.Event) -> None:
        role.others = OtherRoles(dict(other.split("=", 1) for other in others), role.clock)
        await run_gateway(role, stop, listen(host, port), keys, settle)

    _play(context, "gateway", (admin_host, admin_port), work, supervised, (host, port))


def refuse_unservable(context: Context) -> None:
    """Raises Refused where the engine that was named for this run takes no adapters, and one is to be served."""
    settings = context.settings
    Operations(context.control, lambda: settings, context.state.candidates, context.clock).refuse_unservable()


def _play(
    context: Context,
    name: str,
    admin: tuple[str, int],
    work: Callable[[Role, asyncio.Event], Awaitable[None]],
    supervised: bool,
    chats: tuple[str, int] | None = None,
) -> None:
    from deploy.roles.presence import present, this_process
    from deploy.roles.role import Role
    from deploy.web.serving import listen, run, run_until_stopped

    configure(name)
    if not supervised and name in ("gateway", "controller"):  # `trimtab up` says it once
        list_without_effect(context)
    parent = Lifeline.of_child() if supervised else None
    shared = name == "worker" and context.settings.broker.on_kafka  # Kafka divides the partitions
    with nullcontext(1) if shared else context.state.play(name) as seat:
        control, clock = context.control, context.clock

        async def main(stop: asyncio.Event) -> None:
            on_ready = parent.say_ready if parent else lambda: None
            listening = listen(*admin)
            role = Role(context.state, context.settings, control, clock, listening, on_ready, seat)
            its = (admin[0], int(listening.getsockname()[1]))
            with present(context.state.root, this_process(name, seat, clock.now_us(), its, chats)):
                await work(role, stop)

        within_s = context.settings.process.stop_within_s
        runner = run if name == "gateway" else asyncio.run
        runner(run_until_stopped(main, within_s, clock, parent.wait_gone if parent else None))
