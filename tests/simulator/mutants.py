"""Our own code with one mistake each: the simulator has to notice every one of them."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import msgspec

from deploy.control.ledger import SqlLedger
from feedback import durable
from feedback.clock import Clock
from feedback.dataset import snapshot, tables
from feedback.dataset.snapshot import Manifest, Snapshot
from feedback.facts import writer
from feedback.facts.tables import Batch, Row
from feedback.intake.edge import Record
from feedback.judge.ledger import Refusal, Reservation, refusal
from feedback.records import JudgeRequest
from feedback.topics import DEAD_LETTERS, VERDICTS
from streams.hops import hop, ingest
from streams.hops.facts_sink import FactsSink
from streams.hops.hop import Ack, Fatal, Run, Work
from streams.hops.questions import Questions
from streams.hops.waiting_turns import WaitingTurns
from streams.runs import RunOffsets
from tests.simulator.broker import Consumer, SimProducer
from tests.simulator.facts import Writer

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


async def _drop_the_run(run: Run, ack: Ack, work: Work, _: Clock) -> None:
    try:
        await work(run, ack)
    except Exception:
        ack()


async def _commit_past_a_fault(stream: Any, name: str, work: Work, fatal: Fatal, _: Clock) -> None:
    async for event in stream.noack().events():
        try:
            await work(event.value, event.ack)
        except Exception:
            event.ack()


def _poison_passed_over(run: Run, digest: Any, sound: Any) -> tuple[list[Any], list[Any]]:
    return hop.sift(run, digest, sound)[0], []


def _nothing_rebuilt(router: WaitingTurns, partitions: set[int], facts: Any, now_us: int) -> dict[int, Any]:
    return {}


async def _send_once(self: Questions, due: list[JudgeRequest]) -> None:
    if due:
        await self._send(due)


def _start_at_the_groups_offsets(consumer: Consumer, partitions: Sequence[int]) -> None:
    starts, consumer._starts = consumer._starts, lambda place: None
    ASSIGN(consumer, partitions)
    consumer._starts = starts


ASSIGN = Consumer.assign


def _not_reserved(self: SqlLedger, cost_usd: float, now_us: int, lot: int = 0) -> Reservation | Refusal:
    """The money is looked at, and not set aside."""
    return refusal(self.spent(now_us), self._budget, cost_usd, lot) or Reservation("nothing")


def _unfenced(writer: Writer, *arguments: Any) -> None:
    """A worker goes on with what it knew when it began, though its partitions are somebody else's by now."""
    WRITER(writer, *arguments)
    shared = writer._tables

    class Remembered:
        def __init__(self, name: str) -> None:
            self._name, self._known = name, dict(shared[name].versions)

        def __getattr__(self, name: str) -> Any:
            return getattr(shared[self._name], name)

        def transaction_version(self, app: str) -> int | None:
            return self._known.get(app)

        @property
        def versions(self) -> Any:
            return self

        def update(self, reached: Mapping[str, int]) -> None:
            self._known |= reached
            shared[self._name].versions |= reached

        def keys(self) -> Any:
            return shared[self._name].versions.keys()

        def __getitem__(self, app: str) -> int:
            return shared[self._name].versions[app]

    writer._tables = {name: Remembered(name) for name in shared}


WRITER = Writer.__init__


def _marker_first(path: Path, manifest: Manifest, content: Any) -> Snapshot:
    """In the place where it will be, its marker before what it vouches for."""
    if not path.exists():
        path.mkdir()
        encoded = msgspec.json.format(msgspec.json.encode(manifest, order="sorted"))
        (path / snapshot.MANIFEST).write_bytes(encoded)
        (path / snapshot.MARKER).write_text(hashlib.sha256(encoded).hexdigest() + "\n")
        for table in tables.TABLES:
            tables.write(path / f"{table}.parquet", table, content[table])
        for file in (*path.iterdir(), path, path.parent):
            durable._sync(file)
    return Snapshot(path, snapshot.load_manifest(path))


@contextmanager
def _not_synced() -> Iterator[None]:
    """A sealing takes the files for durable once they are written."""
    publish = snapshot._publish

    def hastily(*arguments: Any) -> Snapshot:
        with patch.object(durable, "_sync", lambda path: None):
            return publish(*arguments)

    with patch.object(snapshot, "_publish", hastily):
        yield


@contextmanager
def _one_by_one() -> Iterator[None]:
    """A run whose handling fails is done record by record, and what fails is buried at the end."""

    async def handle(run: Run, ack: Ack, work: Work, _: Clock) -> None:
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


def disk_mutants() -> dict[str, AbstractContextManager[Any]]:
    """Mistakes in sealing, for the disk that loses power."""
    return {
        "the marker is written first": patch.object(snapshot, "_publish", _marker_first),
        "a snapshot is not synced before it appears": _not_synced(),
    }


def mutants() -> dict[str, AbstractContextManager[Any]]:
    """By name; enter one and the mistake is made."""
    return {
        "a budget is not reserved": patch.object(SqlLedger, "reserve", _not_reserved),
        "a writer is not fenced": patch.object(Writer, "__init__", _unfenced),
        "acknowledged before the facts were committed": patch.object(FactsSink, "put", _ack_before_commit),
        "an overlapping batch is not trimmed": patch.object(writer, "_new_rows", _untrimmed),
        "an overlapping batch is skipped": patch.object(writer, "_new_rows", _skip_overlapping),
        "a run twice in one commit lands twice": patch.object(writer, "_new_rows", _twice_in_one_commit),
        "what was delivered is committed": patch.object(RunOffsets, "committable", _commit_what_was_delivered),
        "a dead letter is not awaited": _not_awaited(DEAD_LETTERS),
        "a verdict is not awaited": _not_awaited(VERDICTS),
        "a run that fails is dropped": patch.object(hop, "handle", _drop_the_run),
        "a fault is committed past, as Faust does": patch("tests.simulator.simulation.consume", _commit_past_a_fault),
        "poison is passed over": patch.object(ingest, "sift", _poison_passed_over),
        "timers are not rebuilt": patch.object(WaitingTurns, "rebuilt", _nothing_rebuilt),
        "a question that could not be sent is forgotten": patch.object(Questions, "send", _send_once),
        "offsets count more than the facts": patch.object(Consumer, "assign", _start_at_the_groups_offsets),
        "records of a failed run are done one by one": _one_by_one(),
    }
