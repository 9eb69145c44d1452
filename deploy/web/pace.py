"""Rests for those who make much work, so that whoever chats has the loop, and the interpreter, for most of the time.

Whoever sends again as soon as answered takes as much of both as there is, in however small pieces; the thread of a local engine
then waits at each of its steps. So such an answer comes late. All who share a pace rest one after another: many
connections are allowed no more work than one.
"""

from __future__ import annotations

import asyncio

from starlette.types import Scope

from feedback.clock import Clock

MOST_S = 5.0
"""Nobody rests for longer, however many rest: they would take it for a failure."""

LATE = "trimtab.late"
"""In a request's scope: its `Kept`."""

LATE_S, APART_S = 0.5, 0.01
"""So late somebody who sent too much is told so, and so long after the one before."""


REFUSED_S, REFUSED_APART_S, REFUSED_MOST_S = 0.05, 0.005, 1.0
"""The same of any other refusal, and the longest rest: one of these an honest client may have earned."""


class Pace:
    """When each may go on, after `most_s` at the latest. Belongs to one event loop."""

    def __init__(self, clock: Clock, most_s: float = MOST_S) -> None:
        self._clock, self._most_s = clock, most_s
        self._over_s = 0.0

    def rest_s(self, apart_s: float, least_s: float = 0.0) -> float:
        """How long whoever asks is to rest: until `apart_s` after the one before, and for at least that and `least_s`."""
        now_s = self._clock.monotonic_s()
        over_s = max(self._over_s + apart_s, now_s + max(apart_s, least_s))
        self._over_s = min(over_s, now_s + self._most_s)
        return self._over_s - now_s


class Late:
    """Keeps those waiting who send what no client should, or too much of it, until they are told so."""

    def __init__(self, clock: Clock) -> None:
        self._clock, self._over = clock, asyncio.Event()
        self._pace, self._refused = Pace(clock), Pace(clock, REFUSED_MOST_S)

    async def wait(self) -> None:
        """Until it is time for the next answer."""
        await self._clock.wait(self._over, self._pace.rest_s(APART_S, LATE_S))

    async def refused(self) -> None:
        """The same for an answer that says no."""
        await self._clock.wait(self._over, self._refused.rest_s(REFUSED_APART_S, REFUSED_S))

    def end(self) -> None:
        """Nobody waits any more: the server stops."""
        self._over.set()


class Kept:
    """One request's place among those who may be kept waiting."""

    def __init__(self, late: Late, at_once: bool = False) -> None:
        self.late, self.at_once = late, at_once
        """`at_once`: whatever is answered from here on is told at once."""


async def kept_waiting(scope: Scope) -> None:
    """Until whoever sent this request may be told that its body is refused."""
    kept: Kept | None = scope.get(LATE)
    if kept is not None and not kept.at_once:
        await kept.late.wait()
