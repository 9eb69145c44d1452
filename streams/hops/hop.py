"""How every hop treats a run: set aside what it chokes on, try what goes wrong again, else stop the process.

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
from streams import metrics
from streams.log import Stored

ATTEMPTS = 4
FIRST_PAUSE_S = 0.1

Run = Sequence[Stored]
Ack = Callable[[], Any]
Work = Callable[[Run, Ack], Awaitable[None]]
"""Handles a run; calls Ack, now or later, when everything that the run led to is durable."""
Fatal = Callable[[BaseException], None]

T = TypeVar("T")

Failed = tuple[Stored, Exception]
"""A record, and what was raised over it."""

Sifted = tuple[list[tuple[Stored, T]], list[Failed]]

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
    """One run through `work`, with bounded retries; raises the last error. Each try gets the very same run."""
    for attempt in range(ATTEMPTS):
        try:
            await work(run, ack)
            return
        except Exception as error:
            if attempt == ATTEMPTS - 1:
                raise
            log.warning("run_failed", topic=run[0].topic, records=len(run), error=repr(error))
            await clock.sleep(FIRST_PAUSE_S * 2**attempt)


def sift(run: Run, digest: Callable[[Stored], T], sound: Callable[[], Stored]) -> Sifted[T]:
    """Each record with what `digest` makes of it, and those at which it raises: poison, to be buried.

    `digest` is pure and does everything that depends on one record alone, so that nothing later can fail because of one:
    no record stops a log, whatever it is and however many of its kind come together. What is not the records' fault buries
    none. The world can't be at fault here (brokers, disks and databases are asked elsewhere, and tried again), but a mistake
    of ours can, at every record. So where a run is nothing but poison, `digest` has to show that it still does its work:
    raises what it raises at `sound()`, a record of that topic that has nothing odd about it.
    """
    digested: list[tuple[Stored, T]] = []
    poison: list[Failed] = []
    for record in run:
        try:
            digested.append((record, digest(record)))
        except Exception as error:
            poison.append((record, error))
    if poison and not digested:
        digest(sound())
    return digested, poison
