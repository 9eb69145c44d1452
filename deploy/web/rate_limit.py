"""A bucket of tokens for each caller, which fills evenly and is as large as a minute's worth.

Each is one number, the moment at which it is full again (the generic cell rate algorithm, ITU-T I.371), and where there are
too many, the least recently used one is forgotten: whoever it belonged to begins with a full one.
"""

from __future__ import annotations

import hashlib
import secrets
from collections import OrderedDict

from feedback.clock import Clock

MOST = 50_000
"""Callers that are remembered: a few megabytes."""

BURST_S = 60.0
_ROUNDING_S = 1e-6


class RateLimit:
    """Belongs to one event loop. `per_minute` 0: no limit."""

    def __init__(self, per_minute: int, clock: Clock) -> None:
        self.per_minute, self._clock = per_minute, clock
        self._full_at_s: OrderedDict[bytes, float] = OrderedDict()
        self._salt = secrets.token_bytes(16)

    def take(self, *caller: str) -> float:
        """0 where the caller has a token left, which is then taken, else the seconds until there is one."""
        if not self.per_minute:
            return 0.0
        name, now_s, token_s = self._name(caller), self._clock.monotonic_s(), BURST_S / self.per_minute
        full_at_s = max(self._full_at_s.get(name, now_s), now_s) + token_s
        wait_s = full_at_s - now_s - BURST_S
        if wait_s > _ROUNDING_S:
            return wait_s
        self._full_at_s[name] = full_at_s
        self._full_at_s.move_to_end(name)
        if len(self._full_at_s) > MOST:
            self._full_at_s.popitem(last=False)
        return 0.0

    def _name(self, caller: tuple[str, ...]) -> bytes:
        """Of one size, and nobody's to read."""
        text = "\0".join(caller).encode("utf-8", "surrogatepass")
        return hashlib.blake2b(text, digest_size=16, key=self._salt).digest()
