"""How often a caller may ask: a bucket of tokens for each, which fills evenly and is as large as a minute's worth.

A caller is the user whom a key's request names, else the key, else the address. Without a key nobody's word counts for who
they are: a new name with each request would be a new bucket. Each bucket is one number (the moment at which it is full
again), and the least recently used one is forgotten where there are too many; in several gateways each counts for itself.
"""

from __future__ import annotations

import hashlib
import math
import secrets
from collections import OrderedDict

from starlette.requests import Request

from deploy.web import metrics
from deploy.web.addresses import Addresses
from deploy.web.callers import Caller
from deploy.web.errors import ApiError
from feedback.clock import Clock

MOST = 50_000
"""Callers that are remembered."""


class RateLimit:
    """Belongs to one event loop. `per_minute` 0: no limit."""

    def __init__(self, per_minute: int, addresses: Addresses, clock: Clock) -> None:
        self._every_s = 60 / per_minute if per_minute else 0.0
        self._burst_s = 60.0
        self._addresses, self._clock = addresses, clock
        self._full_at_s: OrderedDict[bytes, float] = OrderedDict()
        self._salt = secrets.token_bytes(16)

    def take(self, request: Request, caller: Caller | None, user: str | None = None) -> None:
        """Count one request; `user` is whom it names. Raises ApiError: 429 that says when to come again."""
        if not self._every_s:
            return
        wait_s = self._take(self._name(request, caller, user))
        if wait_s > 0:
            metrics.REFUSED.labels(reason="rate").inc()
            again_s = math.ceil(wait_s)
            message = f"too many requests: {60 / self._every_s:g} a minute are allowed; try again in {again_s} s"
            raise ApiError(429, "rate_limit_exceeded", message, retry_after_s=again_s)

    def _take(self, name: bytes) -> float:
        """0 where there was a token, else seconds until there is one (the generic cell rate algorithm, ITU-T I.371)."""
        now_s = self._clock.monotonic_s()
        full_at_s = max(self._full_at_s.get(name, now_s), now_s) + self._every_s
        wait_s = full_at_s - now_s - self._burst_s
        if wait_s > 1e-9:
            return wait_s
        self._full_at_s[name] = full_at_s
        self._full_at_s.move_to_end(name)
        if len(self._full_at_s) > MOST:
            self._full_at_s.popitem(last=False)
        return 0.0

    def _name(self, request: Request, caller: Caller | None, user: str | None) -> bytes:
        """A salted hash: whom we remember here is nobody's business."""
        if caller is None or caller.key is None:
            parts = ["address", self._addresses.of(request.scope)]
        elif user is not None:
            parts = ["user", caller.tenant, user]
        else:
            parts = ["key", caller.key.id]
        text = "\0".join(parts).encode("utf-8", "surrogatepass")
        return hashlib.blake2b(text, digest_size=16, key=self._salt).digest()
