"""Our own code with one mistake each: the simulator has to notice every one of them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any
from unittest.mock import patch

from feedback import facts
from feedback.edge import Record
from feedback.facts import Batch, Row
from feedback.records import JudgeRequest
from streams import hop, ingest
from streams.dead_letters import TOPIC
from streams.facts_sink import FactsSink
from streams.hop import Ack, Fatal, Run, Work
from streams.questions import VERDICTS, Questions
from streams.router import Router
from streams.runs import RunOffsets
from tests.simulator.broker import Consumer, SimProducer

Applied = Mapping[tuple[str, int], int]


async def _ack_before_commit(sink: FactsSink, batch: Batch, ack: Ack) -> None:
    ack()
    await FACTS_PUT(sink, batch, lambda: None)


FACTS_PUT = FactsSink.put


def _untrimmed(batches: Iterable[Batch], applied: Applied) -> Iterator[tuple[Batch, Row]]:
    return ((batch, row) for batch in batches for row in batch.rows)


def _skip_overlapping(batches: Iterable[Batch], applied: Applied) -> Iterator[tuple[Batch, Row]]:
    for batch in batches:
        if all(row.offset >= applied[batch.topic, batch.partition] for row in batch.rows):
            yield from ((batch, row) for row in batch.rows)


def _twice_in_one_commit(batches: Iterable[Batch], applied: Applied) -> Iterator[tuple[Batch, Row]]:
    for batch in batches:
        yield from ((batch, row) for row in batch.rows if row.offset >= applied[batch.topic, batch.partition])


def _commit_what_was_delivered(runs: RunOffsets) -> int | None:
    if not runs._delivered:
        return None
    last = runs._delivered[-1]
    runs._delivered.clear()
    return last + 1


def _not_awaited(letters_only: str) -> Any:
    send = SimProducer.send

    async def hastily(producer: SimProducer, records: Sequence[Record]) -> None:
        if records and records[0].topic == letters_only:
            task = asyncio.ensure_future(send(producer, records))
            task.add_done_callback(lambda done: done.cancelled() or done.exception())
        else:
            await send(producer, records)

    return patch.object(SimProducer, "send", hastily)


async def _drop_the_run(run: Run, ack: Ack, work: Work) -> None:
    try:
        await work(run, ack)
    except Exception:
        ack()


async def _commit_past_a_fault(stream: Any, name: str, work: Work, fatal: Fatal) -> None:
    async for event in stream.noack().events():
        try:
            await work(event.value, event.ack)
        except Exception:
            event.ack()


async def _poison_passed_over(run: Run, digest: Any, producer: Any) -> list[Any]:
    digested = []
    for record in run:
        try:
            digested.append((record, digest(record)))
        except Exception:
            continue
    return digested


def _nothing_rebuilt(router: Router, partitions: set[int], facts: Any, now_us: int) -> dict[int, Any]:
    return {}


async def _send_once(self: Questions, due: list[JudgeRequest]) -> None:
    if due:
        await self._send(due)


def _start_at_the_groups_offsets(consumer: Consumer, partitions: Sequence[int]) -> None:
    starts, consumer._starts = consumer._starts, lambda place: None
    ASSIGN(consumer, partitions)
    consumer._starts = starts


ASSIGN = Consumer.assign


@contextmanager
def _one_by_one() -> Iterator[None]:
    """A run whose handling fails is done record by record, and what fails is buried at the end."""

    async def handle(run: Run, ack: Ack, work: Work) -> None:
        try:
            await work(run, lambda: None)
        except Exception:
            failed = []
            for record in run:
                try:
                    await work([record], lambda: None)
                except Exception as error:
                    failed.append((record, error))
            if failed:
                raise failed[-1][1] from None
        ack()

    with patch.object(hop, "handle", handle):
        yield


def mutants() -> dict[str, AbstractContextManager[Any]]:
    """By name; enter one and the mistake is made."""
    return {
        "acknowledged before the facts were committed": patch.object(FactsSink, "put", _ack_before_commit),
        "an overlapping batch is not trimmed": patch.object(facts, "_new_rows", _untrimmed),
        "an overlapping batch is skipped": patch.object(facts, "_new_rows", _skip_overlapping),
        "a run twice in one commit lands twice": patch.object(facts, "_new_rows", _twice_in_one_commit),
        "what was delivered is committed": patch.object(RunOffsets, "committable", _commit_what_was_delivered),
        "a dead letter is not awaited": _not_awaited(TOPIC),
        "a verdict is not awaited": _not_awaited(VERDICTS),
        "a run that fails is dropped": patch.object(hop, "handle", _drop_the_run),
        "a fault is committed past, as Faust does": patch("tests.simulator.simulation.consume", _commit_past_a_fault),
        "poison is passed over": patch.object(ingest, "sift", _poison_passed_over),
        "timers are not rebuilt": patch.object(Router, "rebuilt", _nothing_rebuilt),
        "a question that could not be sent is forgotten": patch.object(Questions, "send", _send_once),
        "offsets count more than the facts": patch.object(Consumer, "assign", _start_at_the_groups_offsets),
        "records of a failed run are done one by one": _one_by_one(),
    }
