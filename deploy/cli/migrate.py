"""`trimtab migrate`: from the embedded log to Kafka."""

from __future__ import annotations

from contextlib import ExitStack

import click
from pydantic import ValidationError
from rich.progress import Progress

from deploy.cli.common import Context, pass_context, print_json, stderr, stdout
from deploy.errors import Failed, Refused
from deploy.parts import open_log
from deploy.settings import BrokerSettings
from streams.app import GROUPS
from streams.care.migrate import migrate as move
from streams.care.migrate import waiting
from streams.log import LogError
from streams.sqlite.log import SqliteLog

ROLES = ("up", "gateway", "worker")
MOVED = ".moved"


@click.command()
@click.option("--to", "url", required=True, metavar="KAFKA_URL", help="kafka://host:port,host:port")
@pass_context()
def migrate(context: Context, url: str) -> None:
    """Move this directory from the embedded log to Kafka; broker.* in trimtab.toml says how the cluster is reached.

    What the worker has taken in is among the facts and stays there; what waits on the log, and dead letters, go to the
    cluster. Stop the service before. It may be broken off and called again: nothing is lost, nothing comes twice.

    \b
    Example:
      trimtab migrate --to kafka://kafka-1:9092,kafka-2:9092
    """
    broker = _cluster(context.settings.broker, url)
    embedded = context.state.log
    if not embedded.exists():
        raise Refused(f"{context.state.root} has no embedded log to move: set broker.url and start")
    with ExitStack() as alone:
        for role in ROLES:
            alone.enter_context(context.state.without(role))
        source = SqliteLog(embedded, context.clock)
        target = open_log(context.state, context.settings.model_copy(update={"broker": broker}), context.clock)
        try:
            total = waiting(source, GROUPS)
            with Progress(console=stderr) as shown:
                task = shown.add_task("moving", total=total)
                moved = move(source, target, GROUPS, lambda count: shown.update(task, completed=count))
        except LogError as error:
            raise Failed(f"{error}. What was moved stays; call it again") from None
        source.close()
        target.close()
        if moved != total:
            raise Failed(
                f"{total} records waited but {moved} are on the cluster: please report this; nothing was removed"
            )
        for suffix in ("", "-wal", "-shm"):
            part = embedded.with_name(embedded.name + suffix)
            if part.exists():
                part.rename(embedded.with_name(embedded.name + MOVED + suffix))
    if context.as_json:
        print_json({"moved": moved, "kept": str(embedded) + MOVED})
        return
    stdout.print(
        f"{moved:,} records moved; the old log is kept as {embedded.name}{MOVED}. Now set this and start again:"
    )
    stdout.print(f'\n[broker]\nurl = "{url}"', markup=False)


def _cluster(configured: BrokerSettings, url: str) -> BrokerSettings:
    """The configured access to the cluster at `url`; raises Refused where that is none."""
    try:
        broker = BrokerSettings(**{**configured.model_dump(), "url": url})
    except ValidationError:
        broker = None
    if broker is None or not broker.on_kafka:
        raise Refused(
            f"{url!r} names no Kafka cluster: write host and port of one or more of its brokers, kafka://host:port,host:port"
        )
    return broker
