"""Ingest, join and route, in one pass over a run of `turns.served` or `ratings.given` (and the sink of `verdicts.given`).

In: raw or edge-signed events. Out: facts; questions for the judge on `judge.requests`. Kept: the turns still within their
grace period, in memory, rebuilt from the facts at start. Bad input: a dead letter with its reason; the run goes on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import msgspec

from feedback.clock import Clock
from feedback.facts.tables import Batch, Row
from feedback.intake.contract import Rejected
from feedback.intake.edge import Edge, Record, content_hash
from feedback.records import JudgeRequest, Rating, Turn, Unjudged, Verdict
from streams import metrics
from streams.dead_letters import dead_letter
from streams.hops.facts_sink import FactsSink
from streams.hops.hop import Ack, Run, sift
from streams.hops.questions import Questions
from streams.log import Producer, Stored

Observe = Callable[[int, Turn | Rating, int], list[JudgeRequest]]
"""Told each event as (partition, event, received_at_us); answers what has become due for the judge."""

_decode_judgement = msgspec.json.Decoder(Verdict | Unjudged).decode


class Ingest:
    """The two hops that write facts."""

    def __init__(
        self,
        edge: Edge,
        sink: FactsSink,
        producer: Producer,
        questions: Questions,
        observe: Observe | None,
        clock: Clock,
    ) -> None:
        self._edge, self._clock = edge, clock
        self._sink = sink
        self._producer = producer
        self._questions, self._observe = questions, observe

    async def events(self, run: Run, ack: Ack) -> None:
        """A run of turns or ratings, mixed or not, signed or not."""
        rows: list[Row] = []
        admitted: list[tuple[Turn | Rating, int]] = []
        letters: list[Record] = []
        now_us = self._clock.now_us()

        def admit(record: Stored) -> Turn | Rating | Rejected:
            return self._edge.admit(record.value, record.headers, now_us)

        for record, event in await sift(run, admit, self._producer, now_us):
            if isinstance(event, Rejected):
                letters.append(
                    dead_letter(
                        event,
                        record.value,
                        now_us,
                        topic=record.topic,
                        partition=record.partition,
                        offset=record.offset,
                    )
                )
                metrics.DEAD_LETTERS.labels(reason=event.code).inc()
                metrics.EVENTS.labels(topic=record.topic, outcome="dead_letter").inc()
            else:
                admitted.append((event, record.at_us))
                rows.append(_row(record, event, content_hash(event)))
        metrics.observe_events(admitted, run[0].topic)
        if letters:
            await self._producer.send(letters)
        if self._observe is not None:
            partition = run[0].partition
            due = [request for event, at_us in admitted for request in self._observe(partition, event, at_us)]
            await self._questions.send(due)
        await self._sink.put(_batch(run, rows), ack)  # last: nothing may fail once the batch is with the sink

    async def verdicts(self, run: Run, ack: Ack) -> None:
        """A run of verdicts, which only our own judge hop writes."""
        rows = []
        decoded = await sift(run, lambda record: _decode_judgement(record.value), self._producer, self._clock.now_us())
        for record, judgement in decoded:
            rows.append(_row(record, judgement, hashlib.sha256(record.value).hexdigest()))
        await self._sink.put(_batch(run, rows), ack)


def _row(record: Stored, event: Turn | Rating | Verdict | Unjudged, of_content: str) -> Row:
    return Row(event, of_content, hashlib.sha256(record.value).hexdigest(), record.offset, record.at_us)


def _batch(run: Run, rows: list[Row]) -> Batch:
    return Batch(run[0].topic, run[0].partition, tuple(rows), run[-1].offset + 1)
