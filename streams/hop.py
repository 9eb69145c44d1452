"""How every hop treats a run: try it, try again, find the poison record and bury it alone, else stop the process.

Faust itself commits past a message whose handler raised, so no handler may raise. A run is acknowledged only by the hop's
own work (for the facts: when they are committed), never because time passed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import structlog

from feedback.contract import Rejected
from feedback.edge import Record
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

log = structlog.get_logger()


async def consume(stream: Any, name: str, work: Work, producer: Producer, fatal: Fatal) -> None:
    """Feed a Faust stream's runs to `work`, one at a time; calls `fatal` once and stops when nothing else is left."""
    async for event in stream.noack().events():
        try:
            with metrics.HOP_SECONDS.labels(hop=name).time():
                await handle(event.value, event.ack, name, work, producer)
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # never back into Faust, which would commit past this run
            log.error("hop_failed", hop=name, error=repr(error))
            fatal(error)
            return


async def handle(run: Run, ack: Ack, name: str, work: Work, producer: Producer) -> None:
    """One run through `work`: bounded retries, then record by record; what fails alone becomes a dead letter.

    Raises the last error when every record of the run fails: then it is not the records that are at fault.
    """
    try:
        await _attempt(run, ack, work)
        return
    except Exception as error:
        log.warning("run_failed", hop=name, records=len(run), error=repr(error))
        last = error
    poison: list[tuple[Stored, Exception]] = []
    done = 0

    def ack_one() -> None:
        nonlocal done
        done += 1
        if done == len(run):
            ack()

    for record in run:
        try:
            await _attempt([record], ack_one, work)
        except Exception as error:
            poison.append((record, error))
    if len(poison) == len(run) and len(run) > 1:
        raise last
    if poison:
        await producer.send([_buried(record, error) for record, error in poison])
        for _ in poison:
            metrics.DEAD_LETTERS.labels(reason="poison").inc()
            ack_one()


async def _attempt(run: Run, ack: Ack, work: Work) -> None:
    for attempt in range(ATTEMPTS):
        try:
            await work(run, ack)
            return
        except Exception:
            if attempt == ATTEMPTS - 1:
                raise
            await asyncio.sleep(FIRST_PAUSE_S * 2**attempt)


def _buried(record: Stored, error: Exception) -> Record:
    reason = Rejected("poison", "", f"{type(error).__name__}: {error}")
    return dead_letter(
        reason, record.value, attempts=ATTEMPTS, topic=record.topic, partition=record.partition, offset=record.offset
    )
