"""Our topics on a Kafka cluster: how long each keeps its records and why, what is wrong with one, and mending it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from kafka.admin import ConfigResource, ConfigResourceType
from msgspec import Struct

from feedback.topics import EVENTS
from streams.kafka.log import KafkaLog
from streams.log import DAY_S, DEAD_LETTERS_KEPT_S, KEPT_S, MAX_RECORD_BYTES, kept_s

CLEANUP, RETENTION, SIZE = "cleanup.policy", "retention.ms", "max.message.bytes"
TOGETHER = EVENTS
"""A rating has to come to the worker that waits with its turn: same key, same number of partitions."""


class TopicState(Struct, frozen=True):
    """A topic as it is on the cluster."""

    name: str
    """Without the prefix."""
    partitions: int
    replication: int
    in_step: int
    """Replicas in step, of the partition that has fewest."""
    cleanup: str
    retention_s: float
    """-1: for ever."""
    max_message_bytes: int


class Fault(NamedTuple):
    """What is wrong with a topic, as a sentence, and which setting would be right (none for a matter of partitions)."""

    topic: str
    sentence: str
    setting: tuple[str, str] | None


def why_kept(topic: str) -> str:
    """Why a topic keeps its records as long as it does."""
    if kept_s(topic) == DEAD_LETTERS_KEPT_S:
        return f"{DEAD_LETTERS_KEPT_S // DAY_S} days: a person has to look at what was refused, and may send it again"
    return (
        f"{KEPT_S // DAY_S} days: the facts keep what happened; the log is there to be audited and replayed for a while"
    )


def describe(log: KafkaLog) -> dict[str, TopicState]:
    """Those of our topics that were asked for, by name. Raises LogError."""
    described = log.described(sorted(log.known))
    wanted = [
        ConfigResource(ConfigResourceType.TOPIC, topic["name"], dict.fromkeys((CLEANUP, RETENTION, SIZE)))
        for topic in described
    ]
    with log.administer() as admin:
        settings = admin.describe_configs(wanted, config_filter="all")["topic"]
    found = {}
    for topic in described:
        name, parts = topic["name"].removeprefix(log.prefix), topic["partitions"]
        mine = {key: settings[topic["name"]][key]["value"] for key in (CLEANUP, RETENTION, SIZE)}
        found[name] = TopicState(
            name,
            len(parts),
            len(parts[0]["replica_nodes"]),
            min(len(part["isr_nodes"]) for part in parts),
            mine[CLEANUP],
            int(mine[RETENTION]) / 1_000,
            int(mine[SIZE]),
        )
    return found


def faults(topics: Mapping[str, TopicState], prefix: str = "") -> list[Fault]:
    """What would lose or tear apart events. Longer or shorter retention is the operator's choice."""
    found = []
    for topic in topics.values():
        name = prefix + topic.name
        if "compact" in topic.cleanup:
            why = "it would keep one event of each conversation and lose the others"
            found.append(
                Fault(
                    topic.name,
                    f"the topic {name} is compacted ({CLEANUP} is {topic.cleanup}): {why}",
                    (CLEANUP, "delete"),
                )
            )
        if topic.max_message_bytes < MAX_RECORD_BYTES:
            sentence = f"the topic {name} takes {topic.max_message_bytes:,} bytes at most ({SIZE}); {MAX_RECORD_BYTES:,} are needed"
            found.append(Fault(topic.name, sentence, (SIZE, str(MAX_RECORD_BYTES))))
    counts = {name: topics[name].partitions for name in TOGETHER if name in topics}
    if len(set(counts.values())) > 1:
        told = " and ".join(f"{prefix}{name} has {count}" for name, count in counts.items())
        fewest = min(counts, key=lambda name: counts[name])
        found.append(Fault(fewest, f"{told} partitions: a rating would not meet its turn; both need the same", None))
    return found


def mend(log: KafkaLog, partitions: int) -> list[str]:
    """Bring topics to at least so many partitions and take their faults away; says what was done."""
    done = []
    topics = describe(log)
    most = max([partitions, *(topics[name].partitions for name in TOGETHER)])
    for fault in faults(topics):
        if fault.setting is not None:
            key, value = fault.setting
            with log.administer() as admin:
                admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, log.prefix + fault.topic, {key: value})])
            done.append(f"{log.prefix}{fault.topic}: {key} is {value} now")
    for topic in topics.values():
        wanted = most if topic.name in TOGETHER else max(partitions, topic.partitions)
        if wanted > topic.partitions:
            with log.administer() as admin:
                admin.create_partitions({log.prefix + topic.name: wanted})
            done.append(f"{log.prefix}{topic.name}: {topic.partitions} partitions became {wanted}")
    return done
