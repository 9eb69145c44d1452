"""The log on a Kafka cluster, seen synchronously through kafka-python: topics, offsets, lag, dead letters.

Topics may carry a prefix on the cluster, so that one cluster holds several deployments; groups carry the same one.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import KafkaAdminClient, NewTopic
from kafka.errors import (
    CoordinatorLoadInProgressError,
    CoordinatorNotAvailableError,
    KafkaError,
    NonEmptyGroupError,
    NotCoordinatorError,
    TopicAlreadyExistsError,
    UnknownMemberIdError,
    UnsupportedVersionError,
    for_code,
)
from kafka.structs import OffsetAndMetadata

from feedback.clock import Clock
from feedback.intake.edge import Record
from streams.kafka.access import KafkaAccess
from streams.log import MAX_RECORD_BYTES, TP, LogError, Stored, kept_s

logging.getLogger("kafka").setLevel(logging.CRITICAL)  # it tells of every attempt; what comes of it is a LogError

TIMEOUT_MS = 20_000
CONNECT_MS = 5_000
READ_MS = 2_000
PAUSE_S = 0.2

METADATA_MS = 30_000
"""How soon clients notice partitions that were added."""


class KafkaLog:
    """One deployment's topics on a cluster."""

    def __init__(
        self, access: KafkaAccess, clock: Clock, partitions: int = 4, replication: int = 1, prefix: str = ""
    ) -> None:
        self.access, self._clock, self.prefix = access, clock, prefix
        self._partitions, self._replication = partitions, replication
        self._lock = threading.Lock()
        self.known: set[str] = set()
        """Topics that were asked for with `create_topic`."""
        self._identities: dict[str, str] = {}
        self._consumer: KafkaConsumer | None = None
        self._producer: KafkaProducer | None = None
        with self._clear():
            self._admin = KafkaAdminClient(
                bootstrap_timeout_ms=CONNECT_MS, request_timeout_ms=TIMEOUT_MS, **access.client()
            )

    def identity(self, topic: str) -> str:
        """The id that the cluster gave the topic when it was made: one that is made anew has another."""
        if topic not in self._identities:
            (described,) = self.described([topic])
            self._identities[topic] = str(described["topic_id"])
        return self._identities[topic]

    def create_topic(self, topic: str, partitions: int | None = None) -> bool:
        """Make sure that a topic exists; an existing one keeps its partitions. Whether it was made."""
        settings = {
            "cleanup.policy": "delete",  # compaction would keep one event of a conversation
            "retention.ms": str(kept_s(topic) * 1_000),
            "max.message.bytes": str(MAX_RECORD_BYTES),
        }
        made = NewTopic(self.prefix + topic, partitions or self._partitions, self._replication, topic_configs=settings)
        with self._clear():
            self.known.add(topic)
            if self.prefix + topic in self._admin.list_topics():
                return False
            with suppress(TopicAlreadyExistsError):  # another process was first
                self._admin.create_topics([made], wait_for_metadata=True)
                return True
        return False

    def find(self, topics: Iterable[str]) -> None:
        """Know those of the topics that are there; none is made."""
        with self._clear():
            there = set(self._admin.list_topics())
        self.known |= {topic for topic in topics if self.prefix + topic in there}

    def topics(self) -> dict[str, int]:
        """The topics that were asked for with `create_topic`, and how many partitions each has."""
        described = self.described(sorted(self.known))
        return {topic["name"].removeprefix(self.prefix): len(topic["partitions"]) for topic in described}

    def append(self, records: Iterable[Record]) -> None:
        """Append records, each acknowledged by every replica that is in step."""
        with self._clear():
            if self._producer is None:
                self._producer = KafkaProducer(
                    max_request_size=MAX_RECORD_BYTES, metadata_max_age_ms=METADATA_MS, **self.access.client()
                )
            sent = [
                self._producer.send(
                    self.prefix + record.topic, key=record.key, value=record.value, headers=list(record.headers)
                )
                for record in records
            ]
            for future in sent:
                future.get(TIMEOUT_MS / 1000)

    def read(self, topic: str, partition: int, offset: int, limit: int) -> list[Stored]:
        """Up to `limit` records from `offset` on, or from the oldest one kept; none at the end of the partition."""
        at = TopicPartition(self.prefix + topic, partition)
        with self._clear():
            consumer = self._reader()
            consumer.assign([at])
            oldest, end = consumer.beginning_offsets([at])[at], consumer.end_offsets([at])[at]
            start, found = max(offset, oldest), list[Stored]()
            consumer.seek(at, start)
            while start < end and not found:  # what is between may be no record (a transaction's marker)
                polled = consumer.poll(timeout_ms=READ_MS, max_records=limit).get(at, [])
                found = [stored(topic, record) for record in polled]
                start = consumer.position(at)
        return found

    def ends(self) -> dict[TP, int]:
        """The offset that comes next, for every partition of ours."""
        places = [TopicPartition(self.prefix + topic, p) for topic, n in self.topics().items() for p in range(n)]
        with self._clear():
            try:
                ends = self._reader().end_offsets(places)
            except KeyError:  # partitions were added that this client has not heard of yet
                self._reader().close()
                self._consumer = None
                ends = self._reader().end_offsets(places)
        return self._ours(ends)

    def committed(self, group: str) -> dict[TP, int]:
        """Where a consumer group stands; partitions that it never committed are absent."""
        name = self.prefix + group
        with self._clear():
            found = self._soon(lambda: self._admin.list_group_offsets({name: None}))[name]
        return self._ours({place: at.offset for place, at in found.items() if at.offset >= 0})

    def rewind(self, group: str, offsets: dict[TP, int]) -> None:
        """Let a consumer group begin again at these offsets. While it has members they stay: who is assigned a partition
        begins where the facts end all the same."""
        places = {
            TopicPartition(self.prefix + topic, partition): OffsetAndMetadata(offset, "", -1)
            for (topic, partition), offset in offsets.items()
        }
        with self._clear(), suppress(UnknownMemberIdError, NonEmptyGroupError):
            self._soon(lambda: self._admin.alter_group_offsets(self.prefix + group, places))

    def trim(self, before_us: int, groups: Mapping[str, str]) -> int:
        """Nothing: each topic's retention does it."""
        return 0

    def forget(self, topic: str, places: Mapping[int, Collection[int]]) -> int:
        """Nothing: a cluster removes what is oldest, never one record."""
        return 0

    def close(self) -> None:
        with self._lock:
            for client in (self._admin, self._consumer, self._producer):
                if client is not None:
                    client.close()

    def described(self, topics: Sequence[str]) -> list[dict[str, Any]]:
        """Topics as the cluster describes them, with their full names."""
        if not topics:  # of none, the cluster would describe all
            return []
        with self._clear():
            described: list[dict[str, Any]] = self._admin.describe_topics([self.prefix + topic for topic in topics])
            for topic in described:
                if topic["error_code"]:
                    raise for_code(topic["error_code"])(topic["name"])
                if "topic_id" not in topic:
                    raise UnsupportedVersionError("it gives topics no ids")
        return described

    @contextmanager
    def administer(self) -> Iterator[KafkaAdminClient]:
        """The admin client, for what is not part of every log; raises LogError."""
        with self._clear():
            yield self._admin

    def _reader(self) -> KafkaConsumer:
        if self._consumer is None:
            self._consumer = KafkaConsumer(enable_auto_commit=False, **self.access.client())
        return self._consumer

    def _ours(self, offsets: Mapping[TopicPartition, int]) -> dict[TP, int]:
        return {
            (place.topic.removeprefix(self.prefix), place.partition): offset
            for place, offset in offsets.items()
            if place.topic.startswith(self.prefix)
        }

    def _soon(self, ask: Callable[[], Any]) -> Any:
        """The answer, once there is one: a group's coordinator may still be being made or moved."""
        deadline = self._clock.monotonic_s() + TIMEOUT_MS / 1000
        while True:
            try:
                return ask()
            except (CoordinatorNotAvailableError, NotCoordinatorError, CoordinatorLoadInProgressError):
                if self._clock.monotonic_s() > deadline:
                    raise
                self._clock.pause(PAUSE_S)

    @contextmanager
    def _clear(self) -> Iterator[None]:
        """One at a time, and what Kafka says in a sentence."""
        with self._lock:
            try:
                yield
            except KafkaError as error:
                raise LogError(self.access.explained(error)) from None


def stored(topic: str, record: Any) -> Stored:
    """A consumer's record, of kafka-python or aiokafka, under our topic's name; a tombstone has an empty value."""
    headers = tuple([(name, value or b"") for name, value in record.headers]) if record.headers else ()
    at_us = record.timestamp * 1000
    return Stored(topic, record.partition, record.offset, at_us, record.key or b"", record.value or b"", headers)
