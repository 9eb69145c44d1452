"""A turn under way: the reply streams out, and the turn is on the log before its last piece is.

A turn runs as a task of its own, so that it is logged however the request ends: told to the end, abandoned by its
client (`aborted`), or broken off by the engine (`error`).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Literal

import structlog

from deploy.engine.port import EngineFailed, NotReady, Reply
from deploy.gateway import metrics
from deploy.gateway.event_log import EventLog, OpenTurn
from deploy.gateway.identity import Identity
from deploy.gateway.request import ChatRequest
from deploy.rules.assignment import Arm
from deploy.web.errors import CLIENT_GONE, ApiError
from feedback.clock import Clock
from feedback.records import Outcome, Turn
from models.errors import JobFailed

RETRY_S = 5

log = structlog.get_logger()


@dataclass(frozen=True)
class Plan:
    """What a turn is, once it is decided who answers it. `adapter` is a digest, None the bare base."""

    tenant: str
    who: Identity
    request: ChatRequest
    turn_id: str
    base: str
    adapter: str | None
    arm: Arm
    rollout: dict[str, Any] | None
    started_at_us: int

    @property
    def policy(self) -> str:
        """What the event and the client call it."""
        return self.adapter or self.base


class LiveTurn:
    """A reply on its way out. Iterate over its text; afterwards it has been logged, or `error` says why it counts as failed."""

    def __init__(
        self,
        plan: Plan,
        reply: Reply,
        events: EventLog,
        on_full: Literal["drop", "refuse"],
        began_s: float,
        clock: Clock,
    ) -> None:
        """`began_s`: the clock's monotonic time when the request came."""
        self._clock = clock
        self.plan, self.reply = plan, reply
        self.error: ApiError | None = None
        self.abandoned = False
        """The client went before the reply was complete."""
        self._events, self._on_full, self._began_s = events, on_full, began_s
        self._pieces: asyncio.Queue[str | None] = asyncio.Queue()
        self.task = asyncio.create_task(self._run())

    def abandon(self) -> None:
        """The client is gone; without effect once the reply is complete."""
        self.reply.cancel()

    async def __aiter__(self) -> AsyncIterator[str]:
        while (piece := await self._pieces.get()) is not None:
            yield piece

    @property
    def finish_reason(self) -> str:
        return self.reply.finish_reason or "stop"

    @property
    def usage(self) -> dict[str, int]:
        """As OpenAI counts."""
        asked, said = self.reply.prompt_tokens, self.reply.completion_tokens
        return {"prompt_tokens": asked, "completion_tokens": said, "total_tokens": asked + said}

    async def _run(self) -> None:
        try:
            turn = await self._events.begin_turn(turn_of(self.plan, self._cost()))
            if not turn.held and self._on_full == "refuse":
                self.reply.cancel()
                self.error = not_logged()
            else:
                await self._tell_and_log(turn)
            code = CLIENT_GONE if self.abandoned else self.error.status if self.error else 200
            metrics.CHAT_REQUESTS.labels(code=code, arm=self.plan.arm).inc()
            metrics.CHAT_SECONDS.labels(arm=self.plan.arm).observe(self._clock.monotonic_s() - self._began_s)
        except BaseException:
            self.error = self.error or ApiError(500, "internal_error", "the reply could not be completed")
            raise
        finally:
            self._pieces.put_nowait(None)

    async def _tell_and_log(self, turn: OpenTurn) -> None:
        outcome, text = await self._tell()
        self.abandoned = outcome == "aborted"
        finish_reason = self.reply.finish_reason if outcome == "ok" else None
        logged = await self._events.end_turn(
            turn, reply=text, outcome=outcome, finish_reason=finish_reason, usage=self._cost()
        )
        if not logged:
            metrics.TURNS_LOST.inc()
            if self._on_full == "refuse" and outcome == "ok":
                self.error = not_logged()

    def _cost(self) -> dict[str, float]:
        return cost_of(self.reply, self._clock.monotonic_s() - self._began_s)

    async def _tell(self) -> tuple[Outcome, str]:
        said: list[str] = []
        try:
            async for piece in self.reply:
                if not said:
                    metrics.CHAT_FIRST_TOKEN_SECONDS.observe(self._clock.monotonic_s() - self._began_s)
                said.append(piece)
                self._pieces.put_nowait(piece)
        except EngineFailed as failed:
            self.error = _explained(failed.__cause__)
            return "error", "".join(said)
        gone = self.reply.cancelled.is_set() and self.reply.finish_reason is None
        return "aborted" if gone else "ok", "".join(said)


def turn_of(plan: Plan, cost: dict[str, float]) -> Turn:
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
        messages=plan.request.messages,
        reply="",
        policy=plan.policy,
        base=plan.base,
        rollout=plan.rollout,
        outcome="aborted",
        usage=cost,
    )


def cost_of(reply: Reply, latency_s: float) -> dict[str, float]:
    """What a reply cost so far, as a turn's `usage`."""
    return {
        "prompt_tokens": float(reply.prompt_tokens),
        "completion_tokens": float(reply.completion_tokens),
        "latency_ms": float(round(latency_s * 1000)),
    }


def not_logged() -> ApiError:
    """The log can't take it now."""
    return ApiError(503, "not_logged", "the event log can't be written at the moment; try again", retry_after_s=RETRY_S)


def _explained(error: BaseException | None) -> ApiError:
    if isinstance(error, NotReady):
        return ApiError(503, "not_ready", str(error), retry_after_s=RETRY_S)
    if isinstance(error, JobFailed):  # the base's chat template refuses this sequence of roles
        return ApiError(400, "invalid_value", str(error)[:300], "messages")
    log.error("engine_failed", error=type(error).__name__)  # no text of the error: it may quote what a user wrote
    return ApiError(500, "engine_failed", "the engine failed while it replied; try again")
