"""A place in the line for the local engine."""

from __future__ import annotations

import asyncio

from deploy.engine.leases import Seat
from deploy.engine.loaded import LoadedAdapters
from deploy.engine.local_answer import LocalAnswer
from deploy.engine.parameters import check_messages, sampling_of
from deploy.engine.port import ChatRequest, Reply, TextEngine, Unsupported
from deploy.engine.thread import EngineThread
from models.errors import JobFailed


class LocalPlace(Seat):
    """Made by `LocalEngines.admit`: deploy.engine.port.Place. Who has one is not turned away any more."""

    def __init__(self, engine: TextEngine, thread: EngineThread, adapters: LoadedAdapters, max_tokens: int) -> None:
        super().__init__(adapters.hold)
        self._engine, self._thread, self._max_tokens = engine, thread, max_tokens

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
        self.taken()
        return LocalAnswer(reply, request)

    def leave(self) -> None:
        """Out of the line."""
        self._thread.cancel()
