"""The parts of one deployment, put together as its settings say: the log, the worker, the judge, the rules.

Faust and OpenAI's client take more time to import than most commands take altogether: only who uses them pays for them.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import msgspec
import structlog

from deploy.control.ledger import SqlLedger
from deploy.control.store import Control
from deploy.decisions.operations import Operations
from deploy.errors import Failed
from deploy.serving_settings import EngineSettings
from deploy.settings import BrokerSettings, Settings
from deploy.state import State
from feedback.clock import Clock
from feedback.durable import write_json
from feedback.facts.reader import Facts
from feedback.facts.tables import app_of
from feedback.intake.edge import Edge
from feedback.judge import rubric
from feedback.judge.ledger import Budget
from feedback.judge.rubric import Rubric, RubricError
from feedback.records import Judgement, JudgeRequest
from feedback.settings import JudgeSettings, KeyUnusable
from feedback.topics import JUDGE_REQUESTS, TOPICS, VERDICTS
from models.bases import Base, local_base
from streams.kafka.access import KafkaAccess
from streams.log import Log, LogError, Unsigned
from streams.sqlite.log import SqliteLog

if TYPE_CHECKING:
    from streams.hops.judge import Ask
    from streams.hops.waiting_turns import WaitingTurns
    from streams.link import Link
    from streams.worker import Worker


log = structlog.get_logger()


def note_engine(state: State, settings: Settings, seat: int = 1) -> None:
    """Tell other commands which engine the gateway on this seat asks: `--engine` may have named another than trimtab.toml does."""
    engine = settings.engine
    key_file = engine.api_key_file.absolute() if engine.api_key_file else None
    noted = {"kind": engine.kind, "urls": engine.urls, "model": engine.model}
    write_json(state.engine(seat), noted | ({"api_key_file": str(key_file)} if key_file else {}))


def engine_in_use(state: State, configured: EngineSettings) -> EngineSettings:
    """The engine that the gateway asks which runs now and started last; where none runs, the one that is configured."""
    noted = engines_in_use(state)
    if not noted:
        return configured
    last = noted[max(noted, key=lambda seat: state.engine(seat).stat().st_mtime_ns)]
    told = {"kind": last.kind, "urls": last.urls, "model": last.model, "api_key_file": last.api_key_file}
    return configured.model_copy(update=told)


def engines_in_use(state: State) -> dict[int, EngineSettings]:
    """Which engine each gateway asks that runs now, by its seat, as far as they have said."""
    noted: dict[int, EngineSettings] = {}
    for seat in filter(state.seated, state.seats()):
        with suppress(OSError, ValueError):
            noted[seat] = EngineSettings.model_validate_json(state.engine(seat).read_bytes())
    return noted


def engines_differ(state: State) -> str | None:
    """A sentence where the gateways that run now do not all ask the same engine."""
    asked = {seat: told_engine(engine) for seat, engine in engines_in_use(state).items()}
    if len(set(asked.values())) < 2:
        return None
    each = "; ".join(f"gateway {seat} (process {state.holder(seat)}) asks {told}" for seat, told in asked.items())
    return f"the gateways of this state directory ask different engines: {each}. Give all of them the same [engine]"


def told_engine(engine: EngineSettings) -> str:
    """Which it is, in words."""
    if engine.kind == "local":
        return "the local model"
    return f"{engine.model} at {', '.join(url.rstrip('/') for url in engine.urls)} (kind {engine.kind!r})"


def served_there(state: State) -> dict[str, Any] | None:
    """What the gateways that run now say they serve, replica by replica: what each of them does.

    None where none runs, or one has not said yet.
    """
    noted: list[dict[str, Any]] = []
    for seat in filter(state.seated, state.seats()):
        try:
            noted.append(msgspec.json.decode(state.replicas(seat).read_bytes(), type=dict[str, Any]))
        except (OSError, msgspec.DecodeError):
            return None
    if not noted:
        return None
    first, *others = noted
    for other in others:
        here = {replica["url"]: replica for replica in other["replicas"]}
        for replica in first["replicas"]:
            there = here.get(replica["url"], {"adapters": [], "refused": {}})
            replica["adapters"] = [name for name in replica["adapters"] if name in there["adapters"]]
            replica["refused"] = there["refused"] | replica["refused"]
        first["unusable"] = other["unusable"] | first["unusable"]
    return first


def in_use(state: State, settings: Settings) -> Settings:
    """The settings, with the engine that is in use."""
    return settings.model_copy(update={"engine": engine_in_use(state, settings.engine)})


def open_log(state: State, settings: Settings, clock: Clock) -> Log:
    """The log that the settings name, with all its topics; raises Failed with a sentence when it can't be used."""
    log = connect_log(state, settings, clock)
    try:
        for topic in TOPICS:
            log.create_topic(topic)
        if settings.broker.on_kafka:
            _refuse_faults(log)
    except LogError as error:
        raise Failed(str(error)) from None
    return log


def read_log(state: State, settings: Settings, clock: Clock) -> Log:
    """The log for whoever only looks: an embedded one is opened so, and topics that are not there are not made."""
    if not settings.broker.on_kafka:
        try:
            return SqliteLog(state.log, clock, read_only=True)
        except LogError as error:
            raise Failed(str(error)) from None
    from streams.kafka.log import KafkaLog

    log = connect_log(state, settings, clock)
    assert isinstance(log, KafkaLog)
    try:
        log.find(TOPICS)
    except LogError as error:
        raise Failed(str(error)) from None
    return log


def connect_log(state: State, settings: Settings, clock: Clock) -> Log:
    """The log as it is; raises Failed."""
    broker = settings.broker
    try:
        if broker.on_kafka:
            from streams.kafka.log import KafkaLog  # only who has a cluster pays for its client

            return KafkaLog(kafka_access(broker), clock, broker.partitions, broker.replication, broker.prefix)
        return SqliteLog(state.log, clock, broker.partitions)
    except LogError as error:
        raise Failed(str(error)) from None


def _refuse_faults(log: Log) -> None:
    from streams.kafka.log import KafkaLog
    from streams.kafka.topics import describe, faults

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


def link_to(log: Log, clock: Clock) -> Link:
    """The log with its ways in and out."""
    if isinstance(log, SqliteLog):
        from streams.sqlite.link import link as sqlite_link

        return sqlite_link(log, clock)
    from streams.kafka.link import link
    from streams.kafka.log import KafkaLog

    assert isinstance(log, KafkaLog)
    return link(log)


def open_worker(
    log: Log, state: State, settings: Settings, edge: Edge, ask: Ask | None, router: WaitingTurns | None, clock: Clock
) -> Worker:
    """A worker on that log; start it with `async with`."""
    from streams.worker import Worker

    answered = [judgement.request_id for judgement in Facts(state.facts).verdicts()] if ask is not None else []
    try:
        return Worker(
            link_to(log, clock),
            state.facts,
            edge,
            ask=ask,
            answered=answered,
            clock=clock,
            router=router,
            room=settings.judge.max_waiting if router is not None else None,
            unsigned=unsigned(state, log),
        )
    except LogError as error:
        raise Failed(str(error)) from None


def unsigned(state: State, log: Log) -> Unsigned:
    """Up to where this log's questions and verdicts are taken without a signature.

    Noted once, where verdicts of an earlier version are among the facts: what stands on the log then was written by it, or by
    whoever could write there, as before. Of any other log nothing is taken.
    """
    if not state.unsigned.exists():
        upgraded = Facts(state.facts).columns("verdicts", ["partition"]).num_rows > 0
        ends = {
            app_of(log.identity(topic), topic, partition): end
            for (topic, partition), end in (log.ends() if upgraded else {}).items()
            if topic in (VERDICTS, JUDGE_REQUESTS)
        }
        write_json(state.unsigned, ends)
    noted = msgspec.json.decode(state.unsigned.read_bytes(), type=dict[str, int])
    places = ((topic, partition) for topic, partition in log.ends() if topic in (VERDICTS, JUDGE_REQUESTS))
    return {(topic, at): noted.get(app_of(log.identity(topic), topic, at), 0) for topic, at in places}


def load_rubric(settings: JudgeSettings) -> Rubric:
    """The rubric that is configured; raises Failed with a sentence."""
    try:
        return rubric.load(settings.rubric)
    except RubricError as error:
        raise Failed(str(error)) from None


def ledger(settings: JudgeSettings, control: Control) -> SqlLedger:
    """The ledger that all processes of this deployment share."""
    return SqlLedger(control.database, Budget(settings.usd_per_hour, settings.usd_per_day))


def make_ask(
    settings: JudgeSettings, control: Control, clock: Clock, as_of: Callable[[], int] | None = None
) -> Ask | None:
    """How to ask the judge; None where there is none, or nobody knows what it costs. `as_of`: verdicts carry that moment instead of the clock's.

    A replay looks at the past, and so does its judge: else verdicts would lie after the moment that it is sealed at.
    """
    if not settings.configured:
        return None
    if (why_not := settings.unpriced) is not None:
        log.warning("judge_unpriced", why=why_not)
        return None
    from feedback.judge.client import Judge

    try:
        judge = Judge(settings, load_rubric(settings), ledger(settings, control), clock=clock)
    except KeyUnusable as error:
        raise Failed(str(error)) from None
    if as_of is None:
        return judge.judge

    async def ask(request: JudgeRequest) -> Judgement:
        return msgspec.structs.replace(await judge.judge(request), occurred_at_us=as_of())

    return ask


def operations(state: State, settings: Settings, control: Control, clock: Clock) -> Operations:
    """The rules over this state directory."""
    known: list[Base] = []  # it does not change while it is served, and to describe it its weights are hashed

    def served() -> Base | None:
        if not known and (base := local_base(settings.base, settings.tiny, state.root)) is not None:
            known.append(base)
        return known[0] if known else None

    return Operations(control, lambda: in_use(state, settings), state.candidates, clock, served=served)
