"""The streams of one state directory, opened as its settings say."""

from __future__ import annotations

from deploy.errors import Failed
from deploy.settings import BrokerSettings, Settings
from deploy.state import State
from feedback.edge import Edge
from feedback.facts import Facts
from streams.app import TOPICS
from streams.judge import Ask
from streams.kafka_access import KafkaAccess
from streams.log import Log, LogError
from streams.router import Router
from streams.sqlite_log import SqliteLog
from streams.worker import Worker


def open_log(state: State, settings: Settings) -> Log:
    """The log that the settings name, with all its topics; raises Failed with a sentence when it can't be used."""
    log = connect_log(state, settings)
    try:
        for topic in TOPICS:
            log.create_topic(topic)
        if settings.broker.on_kafka:
            _refuse_faults(log)
    except LogError as error:
        raise Failed(str(error)) from None
    return log


def connect_log(state: State, settings: Settings) -> Log:
    """The log as it is; raises Failed."""
    broker = settings.broker
    try:
        if broker.on_kafka:
            from streams.kafka_log import KafkaLog  # only who has a cluster pays for its client

            return KafkaLog(kafka_access(broker), broker.partitions, broker.replication, broker.prefix)
        return SqliteLog(state.log, broker.partitions)
    except LogError as error:
        raise Failed(str(error)) from None


def _refuse_faults(log: Log) -> None:
    from streams.kafka_log import KafkaLog
    from streams.kafka_topics import describe, faults

    assert isinstance(log, KafkaLog)
    if found := faults(describe(log), log.prefix):
        raise Failed(f"{'; '.join(fault.sentence for fault in found)}. `trimtab topics create` mends it")


def kafka_access(broker: BrokerSettings) -> KafkaAccess:
    """How the settings reach the cluster; raises LogError."""
    return KafkaAccess(
        broker.url.removeprefix("kafka://"),
        broker.security,
        broker.sasl_mechanism,
        broker.username,
        broker.password.get_secret_value() if broker.password else None,
        broker.ca_file,
    )


def open_worker(
    log: Log, state: State, settings: Settings, edge: Edge, ask: Ask | None, router: Router | None
) -> Worker:
    """A worker on that log; start it with `async with`."""
    answered = [judgement.request_id for judgement in Facts(state.facts).verdicts()] if ask is not None else []
    try:
        return Worker(
            log,
            state.facts,
            edge,
            ask=ask,
            answered=answered,
            router=router,
            room=settings.judge.max_waiting if router is not None else None,
        )
    except LogError as error:
        raise Failed(str(error)) from None
