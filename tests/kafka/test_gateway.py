"""The gateway and its spool on a real Kafka, with real processes."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import pytest

from tests.kafka.broker import Broker, broker
from tests.kafka.chats import Chats, GatewayProcess, reply_under_way, turns_on

pytestmark = pytest.mark.kafka

AWAY_S = float(os.environ.get("TRIMTAB_TEST_AWAY_S", "1"))
PAUSE_S = 0.2
"""Between two questions of a person: the broker that starts meanwhile wants cores too."""
PARTITIONS = 2
TOPIC = "turns.served"
DEADLINE_S = 120.0
KILLS = 1


@pytest.fixture(scope="module")
def own_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """One that may be stopped."""
    with broker(tmp_path_factory.mktemp("broker")) as running:
        yield running


@pytest.fixture(scope="module")
def gateway(own_broker: Broker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    """A gateway on that broker, which answers; the first test leaves it running, the last one stops it."""
    settings = {"TRIMTAB_BROKER__URL": f"kafka://{own_broker.servers}", "TRIMTAB_BROKER__PARTITIONS": str(PARTITIONS)}
    made = GatewayProcess(tmp_path_factory.mktemp("gateway"), **settings)
    try:
        made.wait_ready()
        yield made
    finally:
        made.kill()


def arrived(servers: str, turns: set[str]) -> dict[str, list[str]]:
    """The topic's turns, once these, which must not grow, are among them."""
    deadline = time.monotonic() + DEADLINE_S
    while missing := turns - (found := turns_on(servers, TOPIC, PARTITIONS)).keys():
        assert time.monotonic() < deadline, f"{len(missing)} of {len(turns)} turns are missing"
        time.sleep(0.2)
    return found


def complete(chats: Chats, turns: int) -> None:
    """Wait until so many turns were told to the end."""
    deadline = time.monotonic() + DEADLINE_S
    while len(chats.complete) < turns:
        assert time.monotonic() < deadline, f"{len(chats.complete)} of {turns} turns were told to the end"
        time.sleep(0.01)


def test_a_gateway_that_is_killed_while_it_streams_loses_no_turn_that_was_told_to_the_end(
    own_broker: Broker, gateway: GatewayProcess
) -> None:
    under_way = set[str]()
    chats = Chats(gateway.url, people=4)
    for _ in range(KILLS):
        complete(chats, len(chats.complete) + 20)
        with reply_under_way(gateway.url) as turn:
            under_way.add(turn)
            gateway.kill()
        gateway.start()
        gateway.wait_ready()
    chats.stop()
    found = arrived(own_broker.servers, chats.begun | under_way)
    for turn in chats.complete:
        assert set(found[turn]) == {"ok"}
    for turn in chats.begun - chats.complete:
        assert len(set(found[turn])) == 1
    assert [set(found[turn]) for turn in under_way] == KILLS * [{"aborted"}]


def test_while_the_broker_is_away_the_gateway_answers_and_later_catches_up(
    own_broker: Broker, gateway: GatewayProcess
) -> None:
    earlier = turns_on(own_broker.servers, TOPIC, PARTITIONS).keys()
    chats = Chats(gateway.url, pause_s=PAUSE_S)
    complete(chats, 1)
    arrived(own_broker.servers, set(chats.complete))
    own_broker.stop()
    before, until_s = len(chats.complete), time.monotonic() + AWAY_S
    while time.monotonic() < until_s or len(chats.complete) < before + 10:
        assert time.monotonic() < until_s + DEADLINE_S
        time.sleep(0.1)
    answered = len(chats.complete) - before
    own_broker.start()
    chats.stop()
    assert not chats.failed
    found = arrived(own_broker.servers, chats.complete)
    assert {tuple(set(found[turn])) for turn in found.keys() - earlier} == {("ok",)}
    assert gateway.stop() == 0
    print(
        f"{answered} turns were answered without a broker in {AWAY_S:g} s and more; all {len(chats.complete)} arrived"
    )
