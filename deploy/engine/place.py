"""A request's place in the line for the engine: kept from before anything is decided until its reply begins.

Who gets no place is refused before anything about the request is remembered; who has one is not turned away any more.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from types import TracebackType

from deploy.engine.leases import Lease
from deploy.engine.loaded import LoadedAdapters
from deploy.engine.port import Reply, Sampling, TextEngine
from deploy.engine.thread import EngineThread
from feedback.records import Message


class Place:
    """Made by `Engines.admit`, used by one coroutine. A context: leaving it gives back what no reply has taken over."""

    def __init__(self, engine: TextEngine, thread: EngineThread, adapters: LoadedAdapters) -> None:
        self._engine, self._thread, self._adapters = engine, thread, adapters
        self._lease: Lease | None = None
        self._begun = False

    async def hold(self, digest: str, *, by_name: bool = False) -> bool:
        """Whether this adapter is there to answer; if so it stays until the reply has ended.

        It is loaded where need be. `by_name`: it was asked for by name, and stays for a while after that too.
        """
        self._let_go()
        self._lease = await self._adapters.hold(digest, by_name=by_name)
        return self._lease is not None

    async def check(self, messages: Sequence[Message], sampling: Sampling) -> None:
        """Raises models.errors.JobFailed when the base can't be given these messages, whatever adapter answers."""
        await asyncio.to_thread(self._engine.check, messages, max_tokens=sampling.max_tokens)

    def begin(self, messages: Sequence[Message], sampling: Sampling) -> Reply:
        """A reply by the adapter that is held, or by the bare base. Raises NotReady when the gateway is stopping."""
        reply = Reply(messages, self._lease, sampling, asyncio.get_running_loop())
        self._thread.put(reply)
        self._begun, self._lease = True, None  # both are the reply's now
        return reply

    def __enter__(self) -> Place:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._let_go()
        if not self._begun:
            self._begun = True
            self._thread.cancel()

    def _let_go(self) -> None:
        if self._lease is not None:
            self._lease.release()
            self._lease = None
