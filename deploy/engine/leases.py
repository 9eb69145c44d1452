"""Who uses which adapter: a lease is taken when an adapter is chosen and given back when the reply has ended.

An adapter may be unloaded when nobody holds a lease on it; what the routing says meanwhile does not matter.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Awaitable
from types import TracebackType
from typing import Protocol, Self


class Lease:
    """One user of an adapter. Give it back with `release`, from any thread; again is fine."""

    def __init__(self, digest: str, leases: Leases) -> None:
        self.digest = digest
        self._leases: Leases | None = leases

    def release(self) -> None:
        leases, self._leases = self._leases, None
        if leases is not None:
            leases._give_back(self.digest)


class Leases:
    """The leases that are out. Any thread may ask."""

    def __init__(self) -> None:
        self._users: Counter[str] = Counter()
        self._lock = threading.Lock()

    def take(self, digest: str) -> Lease:
        """One more user; from here on the adapter is not unloaded."""
        with self._lock:
            self._users[digest] += 1
        return Lease(digest, self)

    def held(self, digest: str) -> bool:
        """Whether somebody uses this adapter."""
        with self._lock:
            return digest in self._users

    def _give_back(self, digest: str) -> None:
        with self._lock:
            self._users[digest] -= 1
            if not self._users[digest]:
                del self._users[digest]


class Holder(Protocol):
    """Takes a lease on an adapter; None where it is not there to answer."""

    def __call__(self, digest: str, *, by_name: bool) -> Awaitable[Lease | None]: ...


class Seat:
    """What the places of all engines have in common (deploy.engine.port.Place): a seat in the line, and at most one lease.

    Leaving the context gives both back, but for what an answer has `taken` over.
    """

    _lease: Lease | None = None
    _begun = False

    def __init__(self, holder: Holder) -> None:
        self._holder = holder

    async def hold(self, digest: str, *, by_name: bool = False) -> bool:
        """Whether this adapter is there to answer."""
        self._let_go()
        self._lease = await self._holder(digest, by_name=by_name)
        return self._lease is not None

    def taken(self) -> None:
        """Seat and lease are an answer's now."""
        self._begun, self._lease = True, None

    def leave(self) -> None:
        """Give the seat back; called once, where no answer has taken it."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._let_go()
        if not self._begun:
            self._begun = True
            self.leave()

    def _let_go(self) -> None:
        if self._lease is not None:
            self._lease.release()
            self._lease = None
