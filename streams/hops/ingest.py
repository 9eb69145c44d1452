"""Ingest, join and route, in one pass over a run of `turns.served` or `ratings.given` (and the sink of `verdicts.given`).

In: raw or edge-signed events. Out: facts; questions for the judge on `judge.requests`. Kept: the turns still within their
grace period, in memory, rebuilt from the facts at start. Bad input: a dead letter with its reason; the run goes on. So is a
verdict that we did not sign, wherever it stands beyond what was there before there were signatures.

A run may be tried again at any point: it is buried and observed once, and counted when it is among the facts.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from types import MappingProxyType
from typing import Any

import msgspec

from feedback.clock import Clock
from feedback.content import untrainable
from feedback.facts.tables import Batch, Row, check
from feedback.intake.contract import Rejected
from feedback.intake.edge import Edge, content_hash
from feedback.records import JudgeRequest, Rating, Turn, Unjudged, Verdict
from feedback.topics import RATINGS, TURNS, VERDICTS
from streams import metrics
from streams.hops.burial import Burial, poison
from streams.hops.facts_sink import FactsSink
from streams.hops.hop import Ack, Run, sift
from streams.hops.kinds import misplaced, stray, unsigned
from streams.hops.questions import Questions
from streams.log import Producer, Stored, Unsigned

Observe = Callable[[int, Turn | Rating, int], list[JudgeRequest]]
"""Told each event as (partition, event, received_at_us); answers what has become due for the judge."""

Digest = Callable[[Stored], Row | Rejected]

_decode_judgement = msgspec.json.Decoder(Verdict | Unjudged).decode

_SOUND: dict[str, Any] = {"event_id": "e", "conversation_id": "c", "turn_id": "t", "user_id": "ann", "tags": {"a": "b"}}
SOUND = {
    TURNS: _SOUND | {"event": "turn", "messages": [{"role": "user", "content": "hi"}], "reply": "hi", "policy": "p"},
    RATINGS: _SOUND | {"event": "rating", "source": "user", "kind": "thumbs", "value": True},
}
"""Events that any version takes in, but for their time."""


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
        unsigned: Unsigned = MappingProxyType({}),
    ) -> None:
        self._edge, self._clock, self._unsigned = edge, clock, unsigned
        self._sink = sink
        self._burial = Burial(producer, clock)
        self._questions, self._observe = questions, observe
        self._observed: dict[str, Run] = {}
        """The last run of each topic that was observed: when it is tried again, it is not observed again."""

    async def events(self, run: Run, ack: Ack) -> None:
        """A run of turns or of ratings, signed or not."""
        now_us = self._clock.now_us()
        rows = await self._rows(
            run, lambda record: self._event(record, now_us), lambda: self._sound(run[0].topic, now_us)
        )
        await self._route(run, rows)

        def done() -> None:
            metrics.observe_events([(row.event, row.received_at_us) for row in rows], run[0].topic)  # type: ignore[misc]
            metrics.EVENTS.labels(topic=run[0].topic, outcome="dead_letter").inc(self._burial.done(run))
            ack()

        await self._sink.put(_batch(run, rows), done)  # last: nothing may fail once the batch is with the sink

    async def verdicts(self, run: Run, ack: Ack) -> None:
        """A run of verdicts: those that our own hops wrote."""
        rows = await self._rows(run, self._judgement, self._sound_judgement)

        def done() -> None:
            self._burial.done(run)
            ack()

        await self._sink.put(_batch(run, rows), done)

    async def _rows(self, run: Run, digest: Digest, sound: Callable[[], Stored]) -> list[Row]:
        """The rows of a run; what gives none is buried, before anything that stands after it is kept."""
        digested, choked_on = sift(self._burial.left(run), digest, sound)
        refused = [(record, made) for record, made in digested if isinstance(made, Rejected)]
        await self._burial.bury(refused + poison(choked_on))
        return [made for _, made in digested if isinstance(made, Row)]

    async def _route(self, run: Run, rows: list[Row]) -> None:
        if self._observe is None:
            return
        due: list[JudgeRequest] = []
        if self._observed.get(run[0].topic) is not run:
            partition, observe = run[0].partition, self._observe
            for row in rows:
                due += observe(partition, row.event, row.received_at_us)  # type: ignore[arg-type]
            self._observed[run[0].topic] = run
        await self._questions.send(due)

    def _event(self, record: Stored, now_us: int) -> Row | Rejected:
        """All that depends on this record alone, of what is done with it here and by the router and the sink."""
        event = self._edge.admit(record.value, record.headers, now_us)
        if isinstance(event, Rejected):
            return stray(record) or event
        if (wrong := misplaced("turn" if isinstance(event, Turn) else "rating", record.topic)) is not None:
            return wrong
        if record.headers and isinstance(event, Turn):
            untrainable(event)  # the router asks it too; the messages of what is not signed were all looked at
        return _row(record, event, content_hash(event))

    def _sound(self, topic: str, now_us: int) -> Stored:
        made = self._edge.record_of({**SOUND[topic], "occurred_at": now_us / 1e6}, now_us)
        assert not isinstance(made, Rejected), made
        return _stored(topic, made.value, made.headers)

    def _judgement(self, record: Stored) -> Row | Rejected:
        refused = stray(record) or unsigned(record, self._edge, self._unsigned)
        return refused or _row(record, _decode_judgement(record.value), hashlib.sha256(record.value).hexdigest())

    def _sound_judgement(self) -> Stored:
        made = self._edge.vouched(VERDICTS, SOUND_JUDGEMENT)
        return _stored(VERDICTS, made.value, made.headers)


def _row(record: Stored, event: Turn | Rating | Verdict | Unjudged, of_content: str) -> Row:
    digest = hashlib.sha256(record.value).hexdigest()
    row = Row(event, of_content, digest, record.offset, record.at_us)
    check(row)
    return row


def _batch(run: Run, rows: list[Row]) -> Batch:
    return Batch(run[0].topic, run[0].partition, tuple(rows), run[-1].offset + 1)


def _stored(topic: str, value: bytes, headers: tuple[tuple[str, bytes], ...] = ()) -> Stored:
    return Stored(topic, 0, 0, 0, b"", value, headers)


SOUND_JUDGEMENT = Unjudged(
    verdict_id="v",
    request_id="q",
    tenant="d",
    conversation_id="c",
    turn_id="t",
    occurred_at_us=0,
    reason="refused",
)
