"""The gateway's link to the control database: what is known is answered from memory, and chats go on while it is away.

Who serves is read every half second and keys that were found good are remembered, both for a second at most: a chat asks
the database (and a thread) only where its conversation is new to a rollout under way or to this gateway, or once a second for
its key.

No call takes longer than its deadline. After one that failed all others are refused at once, until a look (every half second)
finds that the database can be read and written again. Meanwhile the routing that was read last serves, and no turn is
evidence for a rollout.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import TypeVar

from deploy.control.keys import Key
from deploy.control.records import UnknownCandidate
from deploy.control.store import Control
from deploy.gateway.breaker import Away, Breaker
from deploy.gateway.bulkhead import Bulkhead
from deploy.gateway.gathered import Gathered
from deploy.gateway.recent import Recent
from deploy.rules.assignment import Conversation, Exposure, Routing, exposed
from feedback.clock import Clock

T = TypeVar("T")
WHAT = "the control database"
STATEMENT_S = 1.0
"""What a statement may take (`Database.within`): the database gives up before we do."""

DEADLINE_S = 1.5
KNOWN_S = 1.0
"""How long what was read is as good as reading it again: so late may a rollback or a revoked key be noticed."""

LEASE_S = 60.0
"""How long a conversation keeps a candidate that may have been rolled back meanwhile."""

KEY_S = 30.0
"""How long a key that was found good goes on working while the database is away."""

LOOK_S = 0.5
THREADS = 4
TOGETHER = 250
"""So many conversations that are new to a rollout are stored in one transaction."""

CONVERSATIONS, KEYS = 50_000, 1_000
"""How many are remembered."""


class ControlLink:
    """`start` it, `stop` it. It belongs to one event loop."""

    def __init__(self, control: Control, clock: Clock) -> None:
        self._control, self._clock = control, clock
        self._breaker = Breaker(WHAT, THREADS, DEADLINE_S, clock)
        self._asides = Bulkhead(1, f"{WHAT}, aside")
        self._known: Routing | None = None
        self._keyed: bool | None = None
        self._read_at_s = -math.inf
        self._asked = Gathered(self._expose_all, TOGETHER)
        self._exposures: Recent[tuple[str, str], Exposure] = Recent(CONVERSATIONS)
        self._keys: Recent[bytes, tuple[Key, float]] = Recent(KEYS)
        self._watching: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to look who serves."""
        self._watching = asyncio.create_task(self._watch())

    async def stop(self) -> None:
        """Look no more; calls are refused from here on."""
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.gather(self._watching, return_exceptions=True)
            self._watching = None
        self._breaker.close()
        self._asides.close()

    def missing(self) -> str | None:
        """None when the database answers, else a sentence on what that means for chats."""
        if (away_s := self._breaker.away_s) is None:
            return f"{WHAT} is being read" if self._known is None else None
        if self._known is None:
            chats = "chats are refused until it has said who serves"
        else:
            chats = f"chats are served by the last known {'routing' if self._in_lease() else 'incumbent'}"
        return f"{WHAT} does not answer since {away_s:.0f} s: {chats}"

    def routing(self) -> Routing | None:
        """Who serves, as it was read last; None before that. Never blocks."""
        return self._known

    async def expose(self, tenant: str, conversation_id: str, unit: str, now_us: int) -> Exposure:
        """As Control's, from memory where nothing has to be stored or looked up; while the database is away by what is known.

        Raises Away where that is nothing.
        """
        last = self._exposures.get((tenant, conversation_id))
        if self._is_fresh() and self._known is not None and (known := exposed(self._known, last)) is not None:
            return known
        try:
            exposure = await self._asked.ask(Conversation(tenant, conversation_id, unit, now_us))
        except Away:
            if self._known is None:
                raise
            return unconfirmed(self._known, last if self._in_lease() else None)
        if exposure.rollout_id is not None:
            self._exposures.set((tenant, conversation_id), exposure)
        return exposure

    async def _expose_all(self, conversations: Sequence[Conversation]) -> Sequence[Exposure]:
        return await self._breaker.call(partial(self._control.expose_all, conversations))

    async def named(self, model: str) -> tuple[bool, str]:
        """Whether everything is halted, and the digest of the candidate of that name. Raises UnknownCandidate, Away."""

        def find() -> tuple[bool, str] | UnknownCandidate:
            with self._control.read() as transaction:
                try:
                    return transaction.serving().halted, transaction.candidate(model).digest
                except UnknownCandidate as unknown:
                    return unknown

        found = await self._breaker.call(find)
        if isinstance(found, UnknownCandidate):
            raise found
        return found

    async def key(self, token: str, now_us: int) -> Key | None:
        """The valid key of a bearer token, else None; one that was found good is looked up again after KNOWN_S.

        While the database is away after KEY_S. Raises Away where it would have to be looked up then.
        """
        name = hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
        asked_at_s = self._clock.monotonic_s()
        key, found_at_s = self._keys.get(name) or (None, -math.inf)
        if asked_at_s - found_at_s >= (KNOWN_S if self._breaker.away_s is None else KEY_S):
            try:
                key = await self._breaker.call(partial(self._control.key, token, now_us))
            except Away:
                if asked_at_s - found_at_s >= KEY_S:
                    raise
            else:
                self._remember(name, key, asked_at_s)
        return key if key is not None and key.valid(now_us) else None

    async def keyed(self) -> bool:
        """Whether there is a key that was not revoked; while the database is away as it was read last. Raises Away where never."""
        if self._keyed is None or not self._is_fresh():
            try:
                self._keyed = await self._breaker.call(self._control.keyed)
            except Away:
                if self._keyed is None:
                    raise
        return self._keyed

    async def aside(self, function: Callable[[Control], T]) -> T:
        """What it returns, from a thread of its own: chats don't wait for it, and go on where it fails or hangs.

        Raises what it raises, and Away.
        """
        try:
            async with self._clock.timeout(DEADLINE_S):
                return await asyncio.wrap_future(self._asides.submit(partial(function, self._control)))
        except TimeoutError:
            raise Away(f"{WHAT} can't be used at the moment") from None

    def _remember(self, name: bytes, key: Key | None, asked_at_s: float) -> None:
        if key is None:
            self._keys.drop(name)
        else:
            self._keys.set(name, (key, asked_at_s))

    def _is_fresh(self) -> bool:
        """Whether who serves was read just now, and will be again."""
        reading = self._watching is not None and self._breaker.away_s is None
        return reading and self._clock.monotonic_s() - self._read_at_s < KNOWN_S

    def _in_lease(self) -> bool:
        return self._clock.monotonic_s() - self._read_at_s < LEASE_S

    async def _watch(self) -> None:
        while True:
            with suppress(Away):
                await self._look()
            await self._clock.sleep(LOOK_S)

    async def _look(self) -> None:
        asked_at_s = self._clock.monotonic_s()
        self._known, self._keyed = await self._breaker.look(self._read)
        self._read_at_s = asked_at_s
        if self._breaker.away_s is not None:
            await self._breaker.look(self._write)  # what failed may have been a write
            self._breaker.back()

    def _read(self) -> tuple[Routing, bool]:
        return self._control.routing(), self._control.keyed()

    def _write(self) -> None:
        with self._control.database.write():
            pass


def unconfirmed(routing: Routing, last: Exposure | None) -> Exposure:
    """What serves a conversation by a routing that may be out of date: never evidence for a rollout.

    `last` is what served it before, if that may go on. Who is not known to be on the candidate's side gets the incumbent.
    """
    keeps = last is not None and last.rollout_id == routing.rollout_id
    arm = last.arm if last is not None and keeps else "incumbent"
    return Exposure(routing.policy(arm), arm)
