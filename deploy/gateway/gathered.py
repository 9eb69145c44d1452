"""Questions that are asked one by one and answered many at once: those that come while a call is under way go together."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

Q = TypeVar("Q")
A = TypeVar("A")


class Gathered(Generic[Q, A]):
    """At most `most` questions in one call of `answer`, one call at a time; it gives as many answers, in order.

    Whatever it raises, all who asked in that call get. Who is cancelled is asked for all the same. One event loop.
    """

    def __init__(self, answer: Callable[[Sequence[Q]], Awaitable[Sequence[A]]], most: int) -> None:
        self._answer, self._most = answer, most
        self._waiting: list[tuple[Q, asyncio.Future[A]]] = []
        self._asking: asyncio.Task[None] | None = None

    async def ask(self, question: Q) -> A:
        """The answer."""
        answered: asyncio.Future[A] = asyncio.get_running_loop().create_future()
        self._waiting.append((question, answered))
        if self._asking is None:
            self._asking = asyncio.create_task(self._ask_all())
        return await answered

    async def _ask_all(self) -> None:
        try:
            while self._waiting:
                now, self._waiting = self._waiting[: self._most], self._waiting[self._most :]
                await self._ask_these(now)
        finally:
            self._asking = None

    async def _ask_these(self, asked: Sequence[tuple[Q, asyncio.Future[A]]]) -> None:
        try:
            answers = await self._answer([question for question, _ in asked])
        except Exception as error:
            for _, answered in asked:
                if not answered.done():
                    answered.set_exception(error)
        else:
            for (_, answered), answer in zip(asked, answers, strict=True):
                if not answered.done():
                    answered.set_result(answer)
