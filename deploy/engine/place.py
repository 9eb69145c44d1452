"""A place in the line for the local engine."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Self

from deploy.engine.leases import Lease
from deploy.engine.loaded import LoadedAdapters
from deploy.engine.local_answer import LocalAnswer
from deploy.engine.parameters import check_messages, sampling_of
from deploy.engine.port import ChatRequest, Reply, TextEngine, Unsupported
from deploy.engine.thread import EngineThread
from models.errors import JobFailed


class LocalPlace:
    """Made by `LocalEngines.admit`: deploy.engine.port.Place. Who has one is not turned away any more."""

    def __init__(self, engine: TextEngine, thread: EngineThread, adapters: LoadedAdapters, max_tokens: int) -> None:
        self._engine, self._thread, self._adapters = engine, thread, adapters
        self._max_tokens = max_tokens
        self._lease: Lease | None = None
        self._begun = False

    async def hold(self, digest: str, *, by_name: bool = False) -> bool:
        """Whether this adapter is there to answer."""
        self._let_go()
        self._lease = await self._adapters.hold(digest, by_name=by_name)
        return self._lease is not None

    async def check(self, request: ChatRequest) -> None:
        """Raises Unsupported: a parameter, or what the base's template can't be given."""
        sampling = sampling_of(request.body, self._max_tokens)
        check_messages(request.messages)
        try:
            await asyncio.to_thread(self._engine.check, request.messages, max_tokens=sampling.max_tokens)
        except JobFailed as error:  # the template refuses this sequence of roles
            raise Unsupported(str(error)[:300], "messages") from None

    def begin(self, request: ChatRequest) -> LocalAnswer:
        """Raises NotReady when the gateway is stopping."""
        sampling = sampling_of(request.body, self._max_tokens)
        reply = Reply(request.messages, self._lease, sampling, asyncio.get_running_loop())
        self._thread.put(reply)
        self._begun, self._lease = True, None  # both are the reply's now
        return LocalAnswer(reply, request)

    def __enter__(self) -> Self:
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
