"""The addresses that one engine answers on: who is asked next, and who is left alone for a while.

The least loaded of those that are well. Who failed three times in a row is left alone, for longer each time.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from feedback.clock import Clock

FORGIVEN = 2
FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 30.0


@dataclass
class Replica:
    """One address (without a trailing slash). `until_s`: left alone until then, on the clock's monotonic time."""

    url: str
    under_way: int = 0
    failures: int = 0
    until_s: float = 0.0
    why: str | None = None
    """What went wrong last, while it has not answered since."""


class Replicas:
    """Belongs to one event loop."""

    def __init__(self, urls: Sequence[str], clock: Clock) -> None:
        self.all = [Replica(url) for url in urls]
        self._clock = clock

    @property
    def away(self) -> str | None:
        """None while somebody can be asked, else what is wrong with them."""
        for replica in self.all:
            if self._well(replica):
                return None
        return self._reasons()

    def choose(self, tried: Collection[str] = (), able: Callable[[Replica], bool] = lambda _: True) -> Replica | None:
        """Who is asked next, of those that are able to answer; None when everybody was tried or is left alone."""
        best, now_s = None, self._clock.monotonic_s()
        for one in self.all:
            better = one.until_s <= now_s and (best is None or one.under_way < best.under_way)
            if better and one.url not in tried and able(one):
                best = one
        return best

    @contextmanager
    def asking(self, replica: Replica) -> Iterator[None]:
        """One more request under way on it."""
        replica.under_way += 1
        try:
            yield
        finally:
            replica.under_way -= 1

    def failed(self, replica: Replica, why: str) -> None:
        """It did not do what it should. Who is left alone already is not for longer: that was the same misfortune."""
        if not self._well(replica):
            return
        replica.failures, replica.why = replica.failures + 1, why
        if replica.failures > FORGIVEN:
            pause_s = min(FIRST_PAUSE_S * 2 ** min(replica.failures - FORGIVEN - 1, 10), LONGEST_PAUSE_S)
            replica.until_s = self._clock.monotonic_s() + pause_s

    def answered(self, replica: Replica) -> None:
        """It is well."""
        if replica.failures:
            replica.failures, replica.until_s, replica.why = 0, 0.0, None

    def _well(self, replica: Replica) -> bool:
        return replica.until_s <= self._clock.monotonic_s()

    def _reasons(self) -> str:
        return "; ".join(f"{replica.url}: {replica.why}" for replica in self.all)
