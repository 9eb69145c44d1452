"""The log on a Kafka cluster, with its transport and its producer."""

from __future__ import annotations

import faust
from faust.types.transports import TransportT

from streams.kafka.log import KafkaLog
from streams.kafka.producer import AsyncProducer
from streams.kafka.transport import Transport
from streams.link import Link
from streams.log import Producer, Starts


def link(log: KafkaLog) -> Link:
    """That log, read by Faust's aiokafka driver with runs as events; its producer connects when it first sends."""

    def transport(app: faust.App, starts: Starts) -> TransportT:
        return Transport(log, app, lambda topic, partition: starts(topic.removeprefix(log.prefix), partition))

    def producer() -> Producer:
        return AsyncProducer(log.access, log.prefix)

    return Link(log, transport, producer)
