"""For what spans several modules on a real Kafka."""

from tests.streams.kafka.conftest import log as log
