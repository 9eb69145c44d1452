"""`trimtab topics`: the log's topics, what they keep and why, and how far each group has come."""

from __future__ import annotations

from typing import Any

import click
from msgspec import to_builtins
from rich.table import Table

from deploy.cli.common import Context, pass_context, print_json, stdout
from deploy.cli.groups import Group
from deploy.errors import Failed
from deploy.parts import connect_log
from feedback.topics import TOPICS
from streams.app import GROUPS
from streams.log import DAY_S, Log, LogError, standings


@click.group(cls=Group)
def topics() -> None:
    """The topics through which events flow, on Kafka or in log.db.

    \b
    Examples:
      trimtab topics create
      trimtab topics create --partitions 16      # later, when there is more to do
      trimtab topics describe
      trimtab topics lag
    """


@topics.command()
@click.option("--partitions", type=click.IntRange(1, 10_000), help="Partitions of each [default: broker.partitions].")
@pass_context()
def create(context: Context, partitions: int | None) -> None:
    """Make the topics that are missing, with the partitions and the retention they need. Doing it again changes nothing.

    On Kafka, topics that are there get what would lose events mended (compaction, too small a limit), and partitions are
    added where they have fewer; running workers take those over within half a minute. None are ever taken away.
    """
    log, count = (
        connect_log(context.state, context.settings, context.clock),
        partitions or context.settings.broker.partitions,
    )
    done = []
    try:
        for topic in TOPICS:
            if log.create_topic(topic, count):
                done.append(f"{log.prefix}{topic}: made, with {count} partitions")
        if context.settings.broker.on_kafka:
            done += _mend(log, count)
    except LogError as error:
        raise Failed(str(error)) from None
    if context.as_json:
        print_json({"done": done})
    else:
        stdout.print("\n".join(done) or "nothing to do: all topics are there")
    log.close()


def _mend(log: Log, partitions: int) -> list[str]:
    from streams.kafka.log import KafkaLog
    from streams.kafka.topics import mend

    assert isinstance(log, KafkaLog)
    return mend(log, partitions)


@topics.command()
@pass_context(looks=True)
def describe(context: Context) -> None:
    """Each topic's partitions, replicas and retention, with the reason for it, and what is wrong."""
    log = context.log
    try:
        rows = _on_kafka(log) if context.settings.broker.on_kafka else _embedded(log)
        rows += [_missing(log.prefix, topic) for topic in TOPICS if topic not in log.topics()]
    except LogError as error:
        raise Failed(str(error)) from None
    if context.as_json:
        print_json(rows)
    else:
        table = Table("topic", "partitions", "replicas", "kept", "why", box=None)
        for row in rows:
            replicas = f"{row['in_step']} of {row['replication']} in step" if "replication" in row else "-"
            table.add_row(log.prefix + row["name"], str(row["partitions"]), replicas, row["kept"], row["why"])
        stdout.print(table)
        for row in rows:
            for fault in row["faults"]:
                stdout.print(f"[red]wrong[/red] {fault}", soft_wrap=True)
    log.close()


def _missing(prefix: str, topic: str) -> dict[str, Any]:
    fault = f"the topic {prefix}{topic} is not there yet: `trimtab topics create` makes it, and so does `trimtab up`"
    return {"name": topic, "partitions": 0, "kept": "-", "why": "-", "faults": [fault]}


def _on_kafka(log: Log) -> list[dict[str, Any]]:
    from streams.kafka.log import KafkaLog
    from streams.kafka.topics import describe, faults, why_kept

    assert isinstance(log, KafkaLog)
    states = describe(log)
    found = faults(states, log.prefix)
    return [
        {
            **to_builtins(state),
            "kept": "for ever" if state.retention_s < 0 else f"{state.retention_s / DAY_S:g} days",
            "why": why_kept(state.name),
            "faults": [fault.sentence for fault in found if fault.topic == state.name],
        }
        for state in states.values()
    ]


def _embedded(log: Log) -> list[dict[str, Any]]:
    kept = {
        True: ("7 days", "those that are done; the facts keep what happened"),
        False: ("for ever", "a person has to look"),
    }
    rows = []
    for name, partitions in log.topics().items():
        how_long, why = kept[name in GROUPS]
        rows.append({"name": name, "partitions": partitions, "kept": how_long, "why": why, "faults": []})
    return rows


@topics.command()
@pass_context(looks=True)
def lag(context: Context) -> None:
    """How far each group has come, and how many records it has still to do."""
    log = context.log
    try:
        places = standings(log, GROUPS)
    except LogError as error:
        raise Failed(str(error)) from None
    rows: list[dict[str, Any]] = [
        {"group": GROUPS[topic], "topic": topic, "partition": partition, "done": at.done, "end": at.end, "lag": at.lag}
        for (topic, partition), at in sorted(places.items())
    ]
    if context.as_json:
        print_json({"lag": sum(row["lag"] for row in rows), "partitions": rows})
    else:
        table = Table("group", "topic", "partition", "done", "end", "lag", box=None)
        for row in rows:
            table.add_row(
                log.prefix + row["group"],
                log.prefix + row["topic"],
                *(f"{row[k]:,}" for k in ("partition", "done", "end", "lag")),
            )
        stdout.print(table)
        stdout.print(f"{sum(row['lag'] for row in rows):,} records to do")
    log.close()
