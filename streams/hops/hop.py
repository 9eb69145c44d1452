"""How every hop treats a run: bury what it chokes on alone, try what goes wrong again, else stop the process.

Faust itself commits past a message whose handler raised, so no handler may raise. A run is acknowledged only by the hop's
own work (for the facts: when they are committed), never because time passed. A run is done as a whole: were its records
done one by one, one that failed could be passed over by the offset of the next.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

import structlog

from feedback.clock import Clock
from feedback.intake.contract import Rejected
from feedback.intake.edge import Record
from streams import metrics
from streams.dead_letters import dead_letter
from streams.log import Producer, Stored

ATTEMPTS = 4
FIRST_PAUSE_S = 0.1

Run = Sequence[Stored]
Ack = Callable[[], Any]
Work = Callable[[Run, Ack], Awaitable[None]]
"""Handles a run; calls Ack, now or later, when everything that the run led to is durable."""
Fatal = Callable[[BaseException], None]

T = TypeVar("T")

log = structlog.get_logger()


async def consume(stream: Any, name: str, work: Work, fatal: Fatal, clock: Clock) -> None:
    """Feed a Faust stream's runs to `work`, one at a time; calls `fatal` once and stops when nothing else is left."""
    async for event in stream.noack().events():
        try:
            with metrics.HOP_SECONDS.labels(hop=name).time():
                await handle(event.value, event.ack, work, clock)
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # never back into Faust, which would commit past this run
            log.error("hop_failed", hop=name, error=repr(error))
            fatal(error)
            return


async def handle(run: Run, ack: Ack, work: Work, clock: Clock) -> None:
    """One run through `work`, with bounded retries; raises the last error."""
    for attempt in range(ATTEMPTS):
        try:
            await work(run, ack)
            return
        except Exception as error:
            if attempt == ATTEMPTS - 1:
                raise
            log.warning("run_failed", topic=run[0].topic, records=len(run), error=repr(error))
            await clock.sleep(FIRST_PAUSE_S * 2**attempt)


async def sift(run: Run, digest: Callable[[Stored], T], producer: Producer, now_us: int) -> list[tuple[Stored, T]]:
    """Each record with what `digest`, which must be pure, makes of it; those at which it raises are dead letters.

    Raises when it does so at every one of several: then it is not the records that are at fault.
    """
    digested: list[tuple[Stored, T]] = []
    poison: list[tuple[Stored, Exception]] = []
    for record in run:
        try:
            digested.append((record, digest(record)))
        except Exception as error:
            poison.append((record, error))
    await bury(run, poison, producer, now_us)
    return digested


async def bury(
    run: Run, poison: Sequence[tuple[Stored, Exception]], producer: Producer, now_us: int, attempts: int = 1
) -> None:
    """Put records of a run aside, each with its error; raises the last one where they are all of several."""
    if not poison:
        return
    if len(poison) == len(run) > 1:
        raise poison[-1][1]
    await producer.send([_buried(record, error, now_us, attempts) for record, error in poison])
    metrics.DEAD_LETTERS.labels(reason="poison").inc(len(poison))


def _buried(record: Stored, error: Exception, now_us: int, attempts: int) -> Record:
    reason = Rejected("poison", "", f"{type(error).__name__}: {error}")
    return dead_letter(
        reason,
        record.value,
        now_us,
        attempts=attempts,
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
    )
