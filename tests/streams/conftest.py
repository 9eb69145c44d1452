"""Both logs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from feedback.topics import TOPICS
from streams.log import Log
from streams.sqlite.log import SqliteLog
from tests.fakes import CLOCK


@pytest.fixture(params=["sqlite", pytest.param("kafka", marks=pytest.mark.kafka)])
def log(request: pytest.FixtureRequest, tmp_path: Path, prefix: str) -> Iterator[Log]:
    """Each of the logs in turn, with all topics made."""
    made: Log
    if request.param == "kafka":
        from streams.kafka.access import KafkaAccess
        from streams.kafka.log import KafkaLog

        made = KafkaLog(KafkaAccess(request.getfixturevalue("kafka_servers")), CLOCK, partitions=2, prefix=prefix)
        for topic in TOPICS:
            made.create_topic(topic)
    else:
        made = SqliteLog(tmp_path / "log.db", CLOCK, partitions=2)
    yield made
    made.close()
