"""Putting records aside as dead letters: each is sent and counted once, however often its run is tried.

Kept: what was buried of runs that are not done yet. After a crash a letter may be sent again, and so may one whose sending
failed after all: `dead_letters.read` shows one of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from feedback.clock import Clock
from feedback.intake.contract import Code, Rejected
from streams import metrics
from streams.dead_letters import dead_letter
from streams.hops.hop import Failed, Run
from streams.log import Producer, Stored

Place = tuple[str, int, int, bytes]
"""Topic, partition and offset, and the bytes: a topic that was made anew may have others there."""


class Burial:
    """One hop's. Ask for what is `left` of a run, `bury` what is wrong with it; it is `done` when nothing can fail any more."""

    def __init__(self, producer: Producer, clock: Clock) -> None:
        self._producer, self._clock = producer, clock
        self._buried: dict[Place, Code] = {}

    def left(self, run: Run) -> Run:
        """What of a run is not buried yet: what was refused once stays so, though its time may have come since."""
        return [record for record in run if _place(record) not in self._buried] if self._buried else run

    async def bury(self, refused: Sequence[tuple[Stored, Rejected]], attempts: int = 1) -> None:
        """Send records to the dead letters, each with the reason; raises what the producer raises."""
        if not refused:
            return
        now_us = self._clock.now_us()
        await self._producer.send(
            [
                dead_letter(
                    reason,
                    record.value,
                    now_us,
                    attempts=attempts,
                    topic=record.topic,
                    partition=record.partition,
                    offset=record.offset,
                )
                for record, reason in refused
            ]
        )
        self._buried.update((_place(record), reason.code) for record, reason in refused)

    def done(self, run: Run) -> int:
        """Count what was buried of a run, and forget it. Returns how many."""
        codes = [self._buried.pop(_place(record), None) for record in run] if self._buried else []
        for code in filter(None, codes):
            metrics.DEAD_LETTERS.labels(reason=code).inc()
        return len(codes) - codes.count(None)


def poison(failed: Iterable[Failed]) -> list[tuple[Stored, Rejected]]:
    """Records that a hop choked on, with that as the reason."""
    return [(record, Rejected("poison", "", f"{type(error).__name__}: {error}")) for record, error in failed]


def _place(record: Stored) -> Place:
    return record.topic, record.partition, record.offset, record.value
