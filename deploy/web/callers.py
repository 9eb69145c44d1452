"""Who asks: the bearer key of a request, or somebody on this machine where no keys are required; and how often they may.

A port that only this machine reaches requires keys as soon as there is one, whoever made it: from then on somebody may be on
this machine who is not to do everything. `access.trust_loopback` says that nobody is.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Collection, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol, TypeVar
from urllib.parse import urlsplit

import structlog
from fastapi import Request

from deploy.control.keys import PREFIX, SCOPES, Key, without_effect
from deploy.control.store import Control
from deploy.web import metrics
from deploy.web.addresses import Addresses, from_this_machine
from deploy.web.errors import ApiError
from deploy.web.headers import header
from deploy.web.loopback import is_loopback
from deploy.web.rate_limit import RateLimit
from feedback.clock import Clock
from feedback.intake.wire import DEFAULT_TENANT

NEEDED = (
    "a valid bearer key is needed (`trimtab keys create` makes one), as soon as there are any also on this machine, unless it is "
    "started with --trust-loopback"
)
RETRY_S = 5

T = TypeVar("T")
log = structlog.get_logger()


class KeyFinder(Protocol):
    """Looks up bearer tokens; the gateway's is deploy.gateway.control_link.ControlLink."""

    async def key(self, token: str, now_us: int) -> Key | None:
        """The valid key of this token."""

    async def keyed(self) -> bool:
        """Whether there is any key that was not revoked."""


class StoredKeys:
    """Looks up each token in the control database, in a thread."""

    def __init__(self, control: Control) -> None:
        self._control = control

    async def key(self, token: str, now_us: int) -> Key | None:
        return await asyncio.to_thread(self._control.key, token, now_us)

    async def keyed(self) -> bool:
        return await asyncio.to_thread(self._control.keyed)


@dataclass(frozen=True)
class Caller:
    """Who asks, with the scopes that are open to them; `key` None is somebody on this machine."""

    tenant: str
    scopes: frozenset[str]
    key: Key | None = None

    @property
    def actor(self) -> str:
        """What the history calls them."""
        return f"key {self.key.name} ({self.key.id})" if self.key is not None else "loopback"

    def allows(self, scope: str) -> bool:
        return scope in self.scopes

    def need(self, scope: str) -> None:
        """Raises a 403 when the scope is missing."""
        if self.allows(scope):
            return
        if self.key is not None and scope in self.key.without_effect:
            raise ApiError(403, "tenant_bound", without_effect(self.key) or "")
        name = self.key.name if self.key is not None else ""
        raise ApiError(403, "insufficient_scope", f"the key {name!r} lacks the scope {scope}")

    @property
    def bound(self) -> bool:
        """Whether they may see and do nothing beyond their tenant."""
        return self.key is not None and self.key.tenant is not None

    def need_unbound(self) -> None:
        """Raises a 403 for who is bound to a tenant: what is asked for is of all of them."""
        if self.key is not None and self.bound:
            said = f"the key {self.key.name!r} is bound to the tenant {self.tenant!r}, and this is about the whole deployment: ask"
            raise ApiError(
                403, "tenant_bound", f"{said} with a key without a tenant (`trimtab keys create` without --tenant)"
            )


FROM_HERE = Caller(DEFAULT_TENANT, frozenset(SCOPES))


class Callers:
    """Finds out who asks. `origins` are the web pages' origins that may ask without a key on this machine.

    `require_keys`: others than this machine reach the port, so that nobody is let in without one. `trust_loopback`: whoever is on
    this machine is, also then and where there are keys.

    `per_minute` requests are let through of each caller (0: no limit); behind the proxies in `trusted_proxies` the address
    is whose request they pass on.
    """

    def __init__(
        self,
        keys: KeyFinder,
        clock: Clock,
        *,
        require_keys: bool,
        trust_loopback: bool = False,
        origins: Collection[str] = (),
        per_minute: int = 0,
        trusted_proxies: Sequence[str] = (),
    ) -> None:
        self._clock = clock
        self._keys, self._origins = keys, origins
        self._require_keys, self._trust_loopback = require_keys, trust_loopback
        self._limit, self._addresses = RateLimit(per_minute, clock), Addresses(trusted_proxies)

    async def caller(self, request: Request, *scopes: str) -> Caller:
        """The caller, who may do one of `scopes`. Raises ApiError: 401 without a valid key, 403 without the scope."""
        caller = await self.known(request)
        if caller is None:
            raise self._stranger(request, NEEDED)
        if caller.scopes.isdisjoint(scopes):
            caller.need(scopes[0])
        return caller

    async def known(self, request: Request) -> Caller | None:
        """The caller, or None where a key is needed and none was sent. A wrong key is a 401 all the same.

        Without required keys a token that is not one of ours counts as none: OpenAI's clients always send something.
        """
        scheme, _, token = (header(request.scope, b"authorization") or "").partition(" ")
        token = token.strip() if scheme.lower() == "bearer" else ""
        if token.startswith(PREFIX):
            key = await self._key(token)
            if key is None:
                raise self._stranger(request, "this key is not known, expired or revoked")
            return Caller(key.tenant or DEFAULT_TENANT, key.effective, key)
        if await self._key_needed(request):
            if token:
                raise self._stranger(request, f"this is no key of this service; {NEEDED}")
            return None
        self._from_this_machine(request)
        return FROM_HERE

    async def _key_needed(self, request: Request) -> bool:
        if self._trust_loopback:
            return self._require_keys and not from_this_machine(request.scope)
        return self._require_keys or await self._read(self._keys.keyed())

    def count(self, request: Request, caller: Caller | None, user: str | None = None) -> None:
        """Count a request of this caller; `user` is whom it names. Raises ApiError: a 429 that says when to come again.

        With a key it is the user's, else the key's. Without one it is the address's, whoever it names: a new name with
        each request would be a new caller.
        """
        if not self._limit.per_minute:
            return
        if caller is None or caller.key is None:
            wait_s = self._limit.take("address", self._addresses.of(request.scope))
        else:
            wait_s = self._limit.take(*(("user", caller.tenant, user) if user else ("key", caller.key.id)))
        if wait_s > 0:
            metrics.REFUSED.labels(reason="rate").inc()
            again_s = math.ceil(wait_s)
            message = f"more than {self._limit.per_minute} requests a minute: try again in {again_s} s"
            raise ApiError(429, "rate_limit_exceeded", message, retry_after_s=again_s)

    def _stranger(self, request: Request, why: str) -> ApiError:
        self.count(request, None)  # keys are not to be guessed by trying
        return ApiError(401, "invalid_api_key", why)

    async def _key(self, token: str) -> Key | None:
        return await self._read(self._keys.key(token, self._clock.now_us()))

    async def _read(self, reading: Awaitable[T]) -> T:
        try:
            return await reading
        except Exception as error:  # its text is not for strangers
            log.error("keys_not_read", error=type(error).__name__)
            raise ApiError(503, "not_ready", "keys can't be read now; try again", retry_after_s=RETRY_S) from error

    def _from_this_machine(self, request: Request) -> None:
        """Without keys, neither a rebound host name nor another site's page may ask (we are bound to loopback)."""
        if not from_this_machine(request.scope):
            raise ApiError(
                403,
                "forbidden",
                "without keys only this machine may ask, and not through a proxy: `trimtab keys create`",
            )
        host, origin = header(request.scope, b"host") or "", header(request.scope, b"origin")
        if origin is not None and origin in self._origins:
            origin = None
        if (why_not := _from_elsewhere(host, origin)) is not None:
            raise ApiError(403, "forbidden", why_not)


@lru_cache(64)  # each may be as long as a header
def _from_elsewhere(host: str, origin: str | None) -> str | None:
    """Why a request with these headers may come from another machine's page; None where it can't."""
    try:
        asked, page = urlsplit(f"//{host}"), urlsplit(origin or "")
        named = asked.hostname
    except ValueError:
        return "the host or origin header can't be read"
    if not is_loopback(named):
        return "without keys only this machine may ask, by 127.0.0.1 or localhost"
    if origin is not None and page.netloc != asked.netloc:
        return "another site's page may not ask; gateway.cors_origins names those that may chat"
    return None
