"""The engine's thread: it takes turns among the replies under way, one piece of each at a time; the rest waits in line.

A reply comes out as an asynchronous stream, so that the event loop never waits for the model.
"""

from __future__ import annotations

import threading
from collections import deque

from deploy.engine.port import Generation, NotReady, Overloaded, Reply, TextEngine

PARALLEL = 8
"""Replies that take turns in the engine; each has a cache of its own in memory."""


class EngineThread:
    """Runs replies on an engine; at most `limit` wait their turn."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._waiting: deque[Reply] = deque()
        self._changed = threading.Condition()
        self._draining = self._stopping = False
        self._thread: threading.Thread | None = None

    def start(self, engine: TextEngine) -> None:
        """Begin with what waits."""
        self._thread = threading.Thread(target=self._run, args=(engine,), name="engine", daemon=True)
        self._thread.start()

    def put(self, reply: Reply) -> None:
        """Get in line. Raises NotReady, Overloaded."""
        with self._changed:
            if self._draining:
                raise NotReady("the gateway is stopping")
            if len(self._waiting) >= self._limit:
                raise Overloaded(f"{self._limit} requests are waiting for the engine")
            self._waiting.append(reply)
            self._changed.notify()

    def waiting_for(self) -> frozenset[str]:
        """Digests of the adapters that replies in the line are to have."""
        with self._changed:
            return frozenset(reply.adapter for reply in self._waiting if reply.adapter is not None)

    def drain(self) -> None:
        """End every reply that waits with NotReady, and take no more; those under way go on."""
        with self._changed:
            self._draining = True
            waiting = list(self._waiting)
            self._waiting.clear()
        for reply in waiting:
            reply.put(NotReady("the gateway is stopping"))

    def stop(self) -> None:
        """End every reply with NotReady, and the thread."""
        self.drain()
        with self._changed:
            self._stopping = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join()

    def _run(self, engine: TextEngine) -> None:
        active: deque[tuple[Reply, Generation]] = deque()
        while self._take(engine, active):
            reply, generation = active.popleft()
            if _advance(reply, generation):
                active.append((reply, generation))
        for reply, generation in active:
            generation.close()
            reply.put(NotReady("the gateway is stopping"))

    def _take(self, engine: TextEngine, active: deque[tuple[Reply, Generation]]) -> bool:
        """Start what waits while there is room; False when it is time to stop."""
        while True:
            with self._changed:
                while not self._stopping and not self._waiting and not active:
                    self._changed.wait()
                if self._stopping:
                    return False
                if not self._waiting or len(active) >= PARALLEL:
                    return True
                reply = self._waiting.popleft()
            if (generation := _begin(engine, reply)) is not None:
                active.append((reply, generation))


def _begin(engine: TextEngine, reply: Reply) -> Generation | None:
    if reply.cancelled.is_set():
        reply.put(None)
        return None
    how = reply.sampling
    try:
        generation = engine.generate(
            reply.messages,
            reply.adapter,
            max_tokens=how.max_tokens,
            temperature=how.temperature,
            top_p=how.top_p,
            seed=how.seed,
            stop=how.stop,
        )
    except Exception as error:  # the reply carries it to whoever waits
        reply.put(error)
        return None
    reply.prompt_tokens = generation.prompt_tokens
    return generation


def _advance(reply: Reply, generation: Generation) -> bool:
    """One piece further; False at the end."""
    try:
        piece = None if reply.cancelled.is_set() else next(generation, None)
        reply.completion_tokens, reply.finish_reason = generation.completion_tokens, generation.finish_reason
        if piece is None:
            generation.close()
        reply.put(piece)
        return piece is not None
    except Exception as error:  # the reply carries it to whoever waits
        reply.put(error)
        return False
