"""Our own code with one mistake each: the simulator has to notice every one of them."""

from __future__ import annotations

import asyncio
import hashlib
import inspect
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
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
from feedback.facts.writer import FactsWriter
from feedback.intake.edge import Record
from feedback.judge.ledger import Refusal, Reservation, refusal
from feedback.records import JudgeRequest
from feedback.topics import DEAD_LETTERS, VERDICTS
from streams.hops import hop, ingest
from streams.hops.facts_sink import FactsSink
from streams.hops.hop import Ack, Fatal, Run, Work
from streams.hops.ingest import Ingest
from streams.hops.judge import JudgeHop
from streams.hops.questions import Questions
from streams.hops.waiting_turns import WaitingTurns
from streams.log import Producer
from streams.runs import RunConsumer, RunOffsets

Applied = Mapping[tuple[str, int], int]


@dataclass(frozen=True)
class Mutant:
    """`owner.name`, which is ours and no test's, replaced by `mistaken`."""

    owner: Any
    name: str
    mistaken: Any

    def made(self) -> AbstractContextManager[Any]:
        """Enter it and the mistake is made."""
        return patch.object(self.owner, self.name, self.mistaken)


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


class Hasty:
    """The log's producer, for somebody who does not await what it sends to one topic."""

    def __init__(self, producer: Producer, topic: str) -> None:
        self._producer, self._topic = producer, topic

    async def send(self, records: Sequence[Record]) -> None:
        if records and records[0].topic == self._topic:
            task = asyncio.ensure_future(self._producer.send(records))
            task.add_done_callback(lambda done: done.cancelled() or done.exception())
        else:
            await self._producer.send(records)

    async def close(self) -> None:
        await self._producer.close()


def _not_awaited(hop_class: type, topic: str) -> Mutant:
    """The hop goes on as if what it sends to that topic were durable at once."""
    begin, parameters = hop_class.__init__, inspect.signature(hop_class)  # type: ignore[misc]

    def hastily(self: Any, *arguments: Any, **named: Any) -> None:
        bound = parameters.bind(*arguments, **named)
        bound.arguments["producer"] = Hasty(bound.arguments["producer"], topic)
        begin(self, *bound.args, **bound.kwargs)

    return Mutant(hop_class, "__init__", hastily)


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


async def _start_at_the_groups_offsets(consumer: RunConsumer, committed: Mapping[Any, int]) -> dict[Any, int]:
    return {place: offset or 0 for place, offset in committed.items()}


def _not_reserved(self: SqlLedger, cost_usd: float, now_us: int, lot: int = 0) -> Reservation | Refusal:
    """The money is looked at, and not set aside."""
    return refusal(self.spent(now_us), self._budget, cost_usd, lot) or Reservation("nothing")


def _not_read_again() -> Mutant:
    """A writer goes on with what it knew to be applied, though its partitions have been somebody else's meanwhile."""
    return _reworded(
        FactsWriter,
        "_commit",
        (
            "applied = {place: table.transaction_version(self._app(*place)) or 0 for place in places}",
            "applied = self.__dict__.setdefault('known', {}); applied |= "
            "{place: table.transaction_version(self._app(*place)) or 0 for place in places - applied.keys()}",
        ),
        (
            "return len(rows)",
            "applied |= {key: max(end, applied[key]) for key, end in reached.items()}; return len(rows)",
        ),
    )


def _reworded(owner: Any, name: str, *changes: tuple[str, str]) -> Mutant:
    """One of our functions with other words in its source; those to be replaced must stand there once."""
    function = getattr(owner, name)
    source = textwrap.dedent(inspect.getsource(function))
    for before, after in changes:
        assert source.count(before) == 1, f"{name} does not say {before!r} any more: mend this mutant"
        source = source.replace(before, after)
    names = dict(function.__globals__)
    exec(compile(source, f"<{name} with a mistake>", "exec"), names)  # the function's annotations are never looked at
    return Mutant(owner, name, names[name])


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


def _not_synced() -> Mutant:
    """A sealing takes the files for durable once they are written."""
    publish = snapshot._publish

    def hastily(*arguments: Any) -> Snapshot:
        with patch.object(durable, "_sync", lambda path: None):
            return publish(*arguments)

    return Mutant(snapshot, "_publish", hastily)


async def _one_by_one(run: Run, ack: Ack, work: Work, _: Clock) -> None:
    """A run whose handling fails is done record by record, and what fails is buried at the end."""
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


def disk_mutants() -> dict[str, Mutant]:
    """Mistakes in sealing, for the disk that loses power."""
    return {
        "the marker is written first": Mutant(snapshot, "_publish", _marker_first),
        "a snapshot is not synced before it appears": _not_synced(),
    }


def mutants() -> dict[str, Mutant]:
    """By name."""
    return {
        "a budget is not reserved": Mutant(SqlLedger, "reserve", _not_reserved),
        "a writer is not fenced": _not_read_again(),
        "acknowledged before the facts were committed": Mutant(FactsSink, "put", _ack_before_commit),
        "an overlapping batch is not trimmed": Mutant(writer, "_new_rows", _untrimmed),
        "an overlapping batch is skipped": Mutant(writer, "_new_rows", _skip_overlapping),
        "a run twice in one commit lands twice": Mutant(writer, "_new_rows", _twice_in_one_commit),
        "what was delivered is committed": Mutant(RunOffsets, "committable", _commit_what_was_delivered),
        "a dead letter is not awaited": _not_awaited(Ingest, DEAD_LETTERS),
        "a verdict is not awaited": _not_awaited(JudgeHop, VERDICTS),
        "a run that fails is dropped": Mutant(hop, "handle", _drop_the_run),
        "a fault is committed past, as Faust does": Mutant(hop, "consume", _commit_past_a_fault),
        "poison is passed over": Mutant(ingest, "sift", _poison_passed_over),
        "timers are not rebuilt": Mutant(WaitingTurns, "rebuilt", _nothing_rebuilt),
        "a question that could not be sent is forgotten": Mutant(Questions, "send", _send_once),
        "offsets count more than the facts": Mutant(RunConsumer, "_kept", _start_at_the_groups_offsets),
        "records of a failed run are done one by one": Mutant(hop, "handle", _one_by_one),
    }
