"""Who uses which adapter: a lease is taken when an adapter is chosen and given back when the reply has ended.

An adapter may be unloaded when nobody holds a lease on it; what the routing says meanwhile does not matter.
"""

from __future__ import annotations

import threading
from collections import Counter


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
