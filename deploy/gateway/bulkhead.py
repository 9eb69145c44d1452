"""A bulkhead: calls that may hang, in threads of their own, so that they never take the threads that others need."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any, TypeVar

T = TypeVar("T")


class Bulkhead:
    """At most `threads` calls at once; more wait in line. Calls that hang do not keep the process from ending."""

    def __init__(self, threads: int, name: str) -> None:
        self._threads = threads
        self._calls: SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = SimpleQueue()
        self._closed = False
        for _ in range(threads):
            threading.Thread(target=self._work, name=name, daemon=True).start()  # an executor's are waited for at exit

    def submit(self, function: Callable[[], T]) -> Future[T]:
        """The call's future. Cancelled before its turn it is never made; once begun it runs to its end."""
        if self._closed:
            raise RuntimeError("closed")
        future: Future[T] = Future()
        self._calls.put((future, function))
        return future

    def close(self) -> None:
        """Refuse more calls; each thread ends when it is through with what came before."""
        self._closed = True
        for _ in range(self._threads):
            self._calls.put(None)

    def _work(self) -> None:
        while (call := self._calls.get()) is not None:
            future, function = call
            if not future.set_running_or_notify_cancel():
                continue
            try:
                result = function()
            except BaseException as error:
                future.set_exception(error)
            else:
                future.set_result(result)
