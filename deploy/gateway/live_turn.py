"""A turn under way: the answer's documents stream out, and the turn is on the log before its last is told.

A turn runs as a task of its own, so that it is logged however the request ends: told to the end, abandoned by its
client (`aborted`), or broken off by the engine (`error`).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator
from typing import Any, Literal

from msgspec import Struct
from starlette.responses import JSONResponse

from deploy.engine.port import Answer, ChatRequest, EngineFailed, EngineRefused, Unsupported
from deploy.gateway import metrics
from deploy.gateway.data_urls import logged, message_without_data
from deploy.gateway.event_log import Ended, EventLog, OpenTurn
from deploy.gateway.identity import Identity
from deploy.gateway.said import Choice, Said
from deploy.rules.assignment import Arm
from deploy.web.errors import CLIENT_GONE, ApiError, bad
from feedback.clock import Clock
from feedback.records import Message, Outcome, Turn

RETRY_S = 5

Document = dict[str, Any]


class Plan(Struct, frozen=True):
    """What a turn is, once it is decided who answers it. `adapter` is a digest, None the bare base.

    `turn_ids`: one for each choice that was asked for.
    """

    tenant: str
    who: Identity
    request: ChatRequest
    turn_ids: tuple[str, ...]
    base: str
    adapter: str | None
    arm: Arm
    rollout: dict[str, Any] | None
    started_at_us: int

    @property
    def turn_id(self) -> str:
        """What the client knows the answer by: the first choice's."""
        return self.turn_ids[0]

    @property
    def policy(self) -> str:
        """What the event calls it."""
        return self.adapter or self.base


class LiveTurn:
    """An answer on its way out. Ask for `news` until there is none: then it has been logged, or `error` says why it failed."""

    def __init__(
        self,
        plan: Plan,
        answer: Answer,
        events: EventLog,
        on_full: Literal["drop", "refuse"],
        began_s: float,
        clock: Clock,
    ) -> None:
        """`began_s`: the clock's monotonic time when the request came."""
        self._clock = clock
        self.plan, self._answer = plan, answer
        self.error: ApiError | None = None
        self.abandoned = False
        """The client went before the answer was complete."""
        self.logged: tuple[OpenTurn, Ended] | None = None
        """The turn as it is logged, with its only choice, once that is so; None where it was not, or there are several."""
        self._events, self._on_full, self._began_s = events, on_full, began_s
        self._said, self._gone = Said(), False
        self._documents: list[Document] = []
        self._over = False
        self._news: asyncio.Future[None] | None = None
        self.task = asyncio.create_task(self._run())

    def abandon(self) -> None:
        """The client is gone; without effect once the answer is complete."""
        self._gone = True
        self._answer.cancel()

    async def news(self) -> list[Document]:
        """The documents that came since this was asked last, all at once; none: the answer is over."""
        while not self._documents and not self._over:
            self._news = asyncio.get_running_loop().create_future()
            await self._news
        news, self._documents = self._documents, []
        return news

    def _changed(self) -> None:
        if self._news is not None and not self._news.done():
            self._news.set_result(None)

    async def _run(self) -> None:
        try:
            # what is told piece by piece is kept from before its first; a whole answer is not told before it is logged
            turn = await self._begin(hold=True) if self.plan.request.stream else None
            if turn is not None and not turn.held and self._on_full == "refuse":
                self._answer.cancel()
                self.error = not_logged()
            else:
                await self._tell_and_log(turn)
            code = CLIENT_GONE if self.abandoned else self.error.status if self.error else 200
            metrics.chat_requests(code, self.plan.arm).inc()
            metrics.chat_seconds(self.plan.arm).observe(self._clock.monotonic_s() - self._began_s)
        except BaseException:
            self.error = self.error or ApiError(500, "internal_error", "the reply could not be completed")
            self._answer.cancel()
            raise
        finally:
            self._over = True
            self._changed()

    async def _begin(self, *, hold: bool) -> OpenTurn:
        turn = turn_of(self.plan, self._cost({}), await logged(self.plan.request.messages))
        return await self._events.begin_turn(turn, hold=hold)

    async def _tell_and_log(self, turn: OpenTurn | None) -> None:
        last = deque[Document]()
        outcome = await self._tell(last)
        self.abandoned = outcome == "aborted"
        turn = turn or await self._begin(hold=False)
        ended = list(self._ended(outcome))
        if await self._events.end_turn(turn, ended):
            self.logged = (turn, ended[0]) if self.plan.request.n == 1 else None
        else:
            refused = self._on_full == "refuse" and outcome == "ok"
            if not (refused and not self.plan.request.stream):  # of a whole answer nothing was told yet
                metrics.TURNS_LOST.inc()
            if refused:
                self.error = not_logged()
                return
        self._documents.extend(last)
        self._changed()

    async def _tell(self, last: deque[Document]) -> Outcome:
        """Tell what comes; in `last` is what has to wait until the turn is logged: its end."""
        first = True
        try:
            async for document in self._answer:
                if first:
                    first = False
                    metrics.CHAT_FIRST_TOKEN_SECONDS.observe(self._clock.monotonic_s() - self._began_s)
                self._said.add(document)
                if last or not self.plan.request.stream or self._said.ended(self.plan.request.n):
                    last.append(document)
                else:
                    self._documents.append(document)
                    self._changed()
        except (EngineFailed, EngineRefused, Unsupported) as error:
            self.error = explained(error)
            return "error"
        return "aborted" if self._gone and not self._said.ended(self.plan.request.n) else "ok"

    def _ended(self, outcome: Outcome) -> Iterator[Ended]:
        asked = len(self.plan.turn_ids)  # the engine may say what it likes
        said = {index: choice for index, choice in self._said.choices.items() if 0 <= index < asked} or {0: Choice()}
        for place, (index, choice) in enumerate(sorted(said.items())):
            reply = choice.reply
            yield Ended(
                self.plan.turn_ids[index],
                reply if isinstance(reply, str) else message_without_data(reply),
                outcome,
                choice.finish_reason if outcome == "ok" else None,
                self._cost(self._said.usage if place == 0 else {}),  # of the whole answer: told once
                {"choice": index, "choices": len(said)} if asked > 1 else {},
            )

    def _cost(self, usage: dict[str, Any]) -> dict[str, Any]:
        return cost_of(usage, self._clock.monotonic_s() - self._began_s)


def turn_of(plan: Plan, cost: dict[str, Any], messages: list[Message]) -> Turn:
    """The turn as it begins: nothing is said yet, and should it stay so it was aborted.

    What the wire contract asks of ids, tags and messages was asked when the request was parsed.
    """
    return Turn(
        event_id=plan.turn_id,
        turn_id=plan.turn_id,
        tenant=plan.tenant,
        conversation_id=plan.who.conversation_id,
        occurred_at_us=plan.started_at_us,
        user_id=plan.who.user_id,
        locale=plan.who.locale,
        tags=plan.who.tags,
        messages=messages,
        reply="",
        policy=plan.policy,
        base=plan.base,
        rollout=plan.rollout,
        outcome="aborted",
        usage=cost,
        origin="gateway",
    )


def cost_of(usage: dict[str, Any], latency_s: float) -> dict[str, Any]:
    """What an answer cost so far, as a turn's `usage`: as the engine counts, and our own time."""
    return usage | {"latency_ms": float(round(latency_s * 1000))}


def not_logged() -> ApiError:
    """The log can't take it now."""
    return ApiError(503, "not_logged", "the event log can't be written at the moment; try again", retry_after_s=RETRY_S)


def explained(error: EngineFailed | EngineRefused | Unsupported) -> ApiError:
    """What the client is told."""
    match error:
        case Unsupported():
            return bad(error.message, error.param, error.code)
        case EngineRefused():
            return EngineSaid(error)
    return ApiError(error.status, error.code, str(error), retry_after_s=RETRY_S if error.status == 503 else None)


class EngineSaid(ApiError):
    """An engine's own error, as it was said."""

    def __init__(self, error: EngineRefused) -> None:
        super().__init__(error.status, "engine_refused", str(error))
        self._said, self._after = dict(error.body), error.retry_after

    @property
    def body(self) -> dict[str, Any]:
        return self._said

    def response(self) -> JSONResponse:
        """The answer that says so; when to try again may be seconds or a date."""
        answer = super().response()
        if self._after is not None and self._after.isascii() and self._after.isprintable():
            answer.headers["retry-after"] = self._after
        return answer
