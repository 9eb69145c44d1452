"""The log on a real Kafka."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from feedback.topics import TOPICS
from streams.kafka.access import KafkaAccess
from streams.kafka.log import KafkaLog
from tests.fakes import CLOCK


@pytest.fixture
def log(kafka_servers: str, prefix: str) -> Iterator[KafkaLog]:
    """All topics, with two partitions each."""
    log = KafkaLog(KafkaAccess(kafka_servers), CLOCK, partitions=2, prefix=prefix)
    for topic in TOPICS:
        log.create_topic(topic)
    yield log
    log.close()
