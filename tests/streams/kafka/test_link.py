"""A cluster's ways in and out: our own names for its topics, and no connection before it is needed."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

from streams.app import App
from streams.kafka.access import KafkaAccess
from streams.kafka.link import link

LOG: Any = SimpleNamespace(access=KafkaAccess("127.0.0.1:9,127.0.0.1:10"), prefix="shop.")
"""Of a log only what it says of itself: nobody answers there."""


async def test_the_facts_are_asked_for_a_topic_without_the_clusters_prefix() -> None:
    def starts(topic: str, partition: int) -> int:
        return {("turns.served", 3): 8}[topic, partition]

    transport: Any = link(LOG).transport(App("g", store="memory://"), starts)
    assert transport.starts("shop.turns.served", 3) == 8
    assert [url.host_port_subcomponent for url in transport.url] == ["127.0.0.1:9", "127.0.0.1:10"]


async def test_a_producer_that_never_sent_never_connected() -> None:
    producer = link(LOG).producer()
    await producer.close()
    assert asyncio.all_tasks() == {asyncio.current_task()}
