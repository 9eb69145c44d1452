"""A circuit breaker: calls to something that may fail or hang have a deadline, and while it is away are refused at once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

import structlog

from deploy.gateway.bulkhead import Bulkhead
from feedback.clock import Clock

T = TypeVar("T")

log = structlog.get_logger()


class Away(Exception):
    """It does not answer, or answers with an error; the message names it."""


class Breaker:
    """Calls in at most `threads` threads, none waited for longer than `deadline_s`. One that failed opens the circuit.

    Then all but `look` raise Away, until `back` is called. What the caller gave up may still happen.
    """

    def __init__(self, what: str, threads: int, deadline_s: float, clock: Clock) -> None:
        self._what, self._deadline_s, self._clock = what, deadline_s, clock
        self._calls = Bulkhead(threads, what)
        self._away_since_s: float | None = None

    @property
    def away_s(self) -> float | None:
        """For how many seconds it has been away; None while it answers."""
        since_s = self._away_since_s
        return self._clock.monotonic_s() - since_s if since_s is not None else None

    async def call(self, function: Callable[[], T]) -> T:
        """What it returns. Raises Away in place of whatever it raises."""
        if self._away_since_s is not None:
            raise self._away()
        return await self.look(function)

    async def look(self, function: Callable[[], T]) -> T:
        """`call`, also while it is away."""
        try:
            async with self._clock.timeout(self._deadline_s):
                return await asyncio.wrap_future(self._calls.submit(function))
        except Exception as error:
            raise self._failed(error) from error

    def back(self) -> None:
        """It answers: let calls through again."""
        if (away_s := self.away_s) is not None:
            log.info("back", what=self._what, after_s=round(away_s))
        self._away_since_s = None

    def close(self) -> None:
        """Refuse all calls; those that hang are left behind."""
        self._calls.close()

    def _failed(self, error: Exception) -> Away:
        if self._away_since_s is None:
            self._away_since_s = self._clock.monotonic_s()
            log.error("away", what=self._what, error=type(error).__name__)
        return self._away()

    def _away(self) -> Away:
        return Away(f"{self._what} can't be used at the moment")
