"""The engine's thread: the replies under way go forward together, a step at a time; the rest waits in line.

A reply comes out as an asynchronous stream, so that the event loop never waits for the model.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence

from deploy.engine.port import Generation, NotReady, Overloaded, Reply, TextEngine

PARALLEL = 8
"""Replies under way in the engine; each has a cache of its own in memory."""

STOPPING = "the gateway is stopping"

Active = tuple[Reply, Generation]


class EngineThread:
    """Runs replies on an engine; at most `limit` wait their turn, places kept for replies to come among them."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._kept = self._under_way = 0
        self._waiting: deque[Reply] = deque()
        self._changed = threading.Condition()
        self._draining = self._stopping = False
        self._thread: threading.Thread | None = None

    def start(self, engine: TextEngine) -> None:
        """Begin with what waits."""
        self._thread = threading.Thread(target=self._run, args=(engine,), name="engine", daemon=True)
        self._thread.start()

    @property
    def idle(self) -> bool:
        """Whether less than half of PARALLEL is under way or waits, places that are kept among them."""
        return 2 * (self._kept + len(self._waiting) + self._under_way) < PARALLEL

    def reserve(self) -> None:
        """Keep a place in the line, until `put` or `cancel`. Raises NotReady, Overloaded."""
        with self._changed:
            self._refuse_when_stopping()
            if self._kept + len(self._waiting) >= self._limit:
                raise Overloaded(f"{self._limit} requests are waiting for the engine")
            self._kept += 1

    def cancel(self) -> None:
        """Give a place back that was kept."""
        with self._changed:
            self._kept -= 1

    def put(self, reply: Reply) -> None:
        """Get in line, in the place that was kept. Raises NotReady; then the place is still kept."""
        with self._changed:
            self._refuse_when_stopping()
            self._kept -= 1
            self._waiting.append(reply)
            self._changed.notify()

    def drain(self) -> None:
        """End every reply that waits with NotReady, and take no more; those under way go on."""
        with self._changed:
            self._draining = True
            waiting = list(self._waiting)
            self._waiting.clear()
        for reply in waiting:
            reply.end(NotReady(STOPPING))

    def stop(self) -> None:
        """End every reply with NotReady, and the thread."""
        self.drain()
        with self._changed:
            self._stopping = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join()

    def _refuse_when_stopping(self) -> None:
        if self._draining:
            raise NotReady(STOPPING)

    def _run(self, engine: TextEngine) -> None:
        active: list[Active] = []
        while self._take(engine, active):
            active = _advance(engine, active)
        for reply, generation in active:
            _end(reply, generation, NotReady(STOPPING))

    def _take(self, engine: TextEngine, active: list[Active]) -> bool:
        """Start what waits while there is room; False when it is time to stop."""
        while True:
            with self._changed:
                self._under_way = len(active)
                while not self._stopping and not self._waiting and not active:
                    self._changed.wait()
                if self._stopping:
                    return False
                if not self._waiting or len(active) >= PARALLEL:
                    return True
                reply = self._waiting.popleft()
                self._under_way += 1
            if (generation := _begin(engine, reply)) is not None:
                active.append((reply, generation))


def _begin(engine: TextEngine, reply: Reply) -> Generation | None:
    if reply.cancelled.is_set():
        reply.end()
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
        reply.end(error)
        return None
    reply.prompt_tokens = generation.prompt_tokens
    return generation


def _advance(engine: TextEngine, active: Sequence[Active]) -> list[Active]:
    """One step of all that are still wanted; those that go on."""
    wanted: list[Active] = []
    for reply, generation in active:
        if reply.cancelled.is_set():
            _end(reply, generation)
        else:
            wanted.append((reply, generation))
    if not wanted:
        return []
    try:
        pieces = engine.step([generation for _, generation in wanted])
    except Exception as error:  # the replies carry it to whoever waits
        pieces = [error] * len(wanted)
    return [one for one, piece in zip(wanted, pieces, strict=True) if _goes_on(*one, piece)]


def _goes_on(reply: Reply, generation: Generation, piece: str | Exception) -> bool:
    """Hand on what a step brought."""
    if isinstance(piece, Exception):
        _end(reply, generation, piece)
        return False
    reply.completion_tokens, reply.finish_reason = generation.completion_tokens, generation.finish_reason
    if piece:
        reply.put(piece)
    if generation.finish_reason is not None:
        _end(reply, generation)
    return generation.finish_reason is None


def _end(reply: Reply, generation: Generation, error: Exception | None = None) -> None:
    try:
        generation.close()
    except Exception as failure:  # whoever waits is to be told, whatever becomes of the engine
        error = error or failure
    reply.end(error)
