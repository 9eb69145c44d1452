"""The shadow stage at the gateway: the candidate answers a copy of some turns, unseen, and both replies are kept as a pair.

A copy is made of a turn that the incumbent has answered, after that was logged and told, where its user is drawn. Nobody waits
for any of it: a copy begins only while the engine has room, gives way to who chats, and whatever goes wrong with it is counted
by its reason. Prompt and replies are kept as the log has them, without personal data.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import structlog
from msgspec.structs import replace

from deploy.control.store import Control
from deploy.engine.port import (
    Answer,
    ChatRequest,
    Engine,
    EngineFailed,
    EngineRefused,
    NotReady,
    Overloaded,
    Unsupported,
)
from deploy.gateway import metrics
from deploy.gateway.breaker import Away
from deploy.gateway.control_link import ControlLink
from deploy.gateway.live_turn import LiveTurn
from deploy.gateway.recent import Recent
from deploy.gateway.redaction import Redaction
from deploy.gateway.redaction_processes import Unredactable
from deploy.gateway.said import Choice, Said
from deploy.rules.assignment import Routing, Shadow, place
from deploy.rules.comparing import Comparison, drawn, probability_of_people
from deploy.settings import Settings
from feedback.clock import Clock
from feedback.content import TEXT_ROLES, prompt_of, text_of, untrainable
from feedback.records import Message, Turn
from feedback.texts import storable
from models.adapters import engine_name

T = TypeVar("T")

REMEMBERED = 50_000
"""Units that are known to have been asked for: of others the control database is asked."""

NOT_TEXT = ("tools", "functions", "audio", "modalities")
"""Of a request: with any of these the answer may be something else than text."""

log = structlog.get_logger()
_chance = secrets.SystemRandom()


class Skipped(Exception):
    """The turn is not copied; one of `metrics.SHADOW_SKIPS`."""


class Failed(Exception):
    """No pair came of it; one of `metrics.SHADOW_FAILURES`."""


@dataclass
class Copy:
    """A turn on its way through the candidate. `turn` is as it is logged, but that its reply is as it was told."""

    shadow: Shadow
    incumbent: str | None
    turn: Turn
    unit: str
    request: ChatRequest
    answer: Answer | None = None
    noted: bool = False
    """The control database knows that it is asked for."""
    gives_way: bool = False


class ShadowTurns:
    """Belongs to one event loop. Of its calls none waits, and none but `close` does more than begin something."""

    def __init__(
        self, settings: Settings, control: ControlLink, engine: Engine, redaction: Redaction, clock: Clock
    ) -> None:
        self._settings, self._compare = settings.shadow, settings.compare
        self._people = probability_of_people(settings.compare, settings.judge.asked)
        self._control, self._engine, self._redaction, self._clock = control, engine, redaction, clock
        self._asked: Recent[tuple[str, str, str], bool] = Recent(REMEMBERED)
        self._copies: dict[asyncio.Task[None], Copy] = {}
        self._closed = False

    def after(self, turn: LiveTurn) -> None:
        """A turn is over: copy it, if its user is drawn, it is fit for that, and there is room."""
        routing = self._control.routing()
        if self._closed or routing is None or (copy := self._drawn(turn, routing)) is None:
            return
        why_not = self._why_not(copy)
        if why_not is not None:
            metrics.SHADOW_SKIPPED.labels(reason=why_not).inc()
            return
        task = asyncio.create_task(self._copy(copy))
        self._copies[task] = copy
        task.add_done_callback(lambda task: self._copies.pop(task, None))

    def make_way(self) -> None:
        """Somebody wants to chat: what is copied ends, where the engine has not room for much more."""
        if self._copies and not self._engine.idle:
            for copy in self._copies.values():
                copy.gives_way = True
                if copy.answer is not None:
                    copy.answer.cancel()

    async def close(self) -> None:
        """Copy nothing more, and end what is under way."""
        self._closed = True
        for task in list(self._copies):
            task.cancel()
        await asyncio.gather(*self._copies, return_exceptions=True)

    def _drawn(self, turn: LiveTurn, routing: Routing) -> Copy | None:
        """The copy of a turn that the incumbent has answered as the rollout's choice, where its user is drawn."""
        plan, shadow, names = turn.plan, routing.shadow, self._engine.names
        if (
            shadow is None
            or turn.logged is None
            or plan.adapter != routing.incumbent
            or plan.request.model not in names
        ):
            return None
        begun, ended = turn.logged
        kept = begun.kept
        unit = kept.user_id if kept.user_id is not None else kept.conversation_id
        if place(shadow.id, shadow.salt, f"{kept.tenant}/{unit}") >= self._settings.share:
            return None
        served = replace(
            kept,
            turn_id=ended.turn_id,
            reply=ended.reply,
            outcome=ended.outcome,
            finish_reason=ended.finish_reason,
        )
        return Copy(shadow, plan.adapter, served, unit, plan.request)

    def _why_not(self, copy: Copy) -> str | None:
        """Why this one is not copied; None where it is."""
        if self._asked.get(_name(copy)):
            return "asked_before"
        if not self._is_fit(copy):
            return "unfit"
        if len(self._copies) >= self._settings.parallel or not self._engine.idle:
            return "busy"
        return None

    def _is_fit(self, copy: Copy) -> bool:
        """Whether it is plain text that went well, by the model that is served."""
        request, names = copy.request, self._engine.names
        return (
            untrainable(copy.turn) is None
            and not any(request.body.get(name) for name in NOT_TEXT)
            and all(message.get("role") in TEXT_ROLES for message in copy.turn.messages)
            and self._engine.base(request.model) == self._engine.base(names[0])
        )

    async def _copy(self, copy: Copy) -> None:
        candidate, tenant, unit = _name(copy)
        try:
            async with self._clock.timeout(self._settings.timeout_s):
                await self._pair(copy)
        except (Skipped, NotReady, Overloaded, Unsupported) as skipped:
            metrics.SHADOW_SKIPPED.labels(reason=_why_skipped(skipped)).inc()
            if copy.noted and copy.gives_way:
                self._asked.drop(_name(copy))
                await self._note(lambda control: control.shadows.forget(candidate, tenant, unit))
        except Exception as error:  # whatever it is, those who chat have nothing to do with it
            why = _why_failed(error)
            metrics.SHADOW_FAILED.labels(reason=why).inc()
            log.warning("shadow_failed", why=why, candidate=engine_name(candidate), error=type(error).__name__)
            if copy.noted:
                await self._note(lambda control: control.shadows.failed(candidate, tenant, unit, why))
        else:
            metrics.SHADOW_PAIRS.inc()

    async def _note(self, function: Callable[[Control], None]) -> None:
        with suppress(Away):  # it was counted
            await self._aside(function)

    async def _aside(self, function: Callable[[Control], T]) -> T:
        """Raises Away, whatever is wrong: nothing here is the caller's fault."""
        try:
            return await self._control.aside(function)
        except Exception as error:
            raise Away(str(error)) from error

    async def _pair(self, copy: Copy) -> None:
        request = replace(copy.request, stream=False, include_usage=False, body=_whole(copy.request.body))
        with self._engine.admit() as seat:
            await seat.check(request)
            if not await seat.hold(copy.shadow.candidate):
                raise Failed("not_loaded")
            await self._ask(copy)
            copy.answer = seat.begin(request)
        reply = await _reply(copy.answer)
        if copy.gives_way:
            raise Skipped("made_way")
        pair = await self._compared(copy, reply)
        if not await self._aside(lambda control: control.comparisons.add([pair])):
            raise Skipped("asked_before")

    async def _ask(self, copy: Copy) -> None:
        """Once this returns it is on disk that the candidate is asked for this unit."""
        most, now_us = self._settings.max_per_day, self._clock.now_us()
        asked = await self._aside(
            lambda control: control.shadows.ask(copy.shadow, copy.turn.tenant, copy.unit, most, now_us)
        )
        if asked in ("asked", "asked_before"):
            self._asked.set(_name(copy), True)
        if asked != "asked":
            raise Skipped(asked)
        copy.noted = True
        if copy.gives_way:
            raise Skipped("made_way")

    async def _compared(self, copy: Copy, reply: str | Message) -> Comparison:
        turn, plain = copy.turn, partial(self._redaction.reply, locale=copy.turn.locale)
        ours, theirs, prompt = text_of(await plain(reply)), text_of(await plain(turn.reply)), prompt_of(turn.messages)
        if ours is None or theirs is None or prompt is None:
            raise Failed("no_text")
        now_us = self._clock.now_us()
        pair = Comparison(
            candidate=copy.shadow.candidate,
            incumbent=copy.incumbent,
            origin="shadow",
            tenant=turn.tenant,
            conversation_id=turn.conversation_id,
            turn_id=turn.turn_id,
            unit=copy.unit,
            locale=turn.locale,
            prompt=prompt,
            candidate_reply=storable(ours),
            incumbent_reply=storable(theirs),
            people=0,
            probability=self._people,
            sampled_at_us=now_us,
            until_us=now_us + self._compare.expires_s * 1_000_000,
        )
        return drawn(pair, self._compare.second, (_chance.random(), _chance.random()))


def _name(copy: Copy) -> tuple[str, str, str]:
    return copy.shadow.candidate, copy.turn.tenant, copy.unit


def _whole(body: Any) -> dict[str, Any]:
    """The request's body, asking for an answer in one piece."""
    return {name: value for name, value in body.items() if name not in ("stream", "stream_options")}


async def _reply(answer: Answer) -> str | Message:
    said = Said()
    try:
        async for document in answer:
            said.add(document)
    finally:
        answer.cancel()
    return said.choices.get(0, Choice()).reply


def _why_skipped(error: Skipped | NotReady | Overloaded | Unsupported) -> str:
    match error:
        case NotReady():
            return "engine_away"
        case Overloaded():
            return "busy"
        case Unsupported():
            return "unfit"
    return str(error)


def _why_failed(error: Exception) -> str:
    match error:
        case Failed():
            return str(error)
        case TimeoutError():
            return "too_slow"
        case EngineRefused():
            return "refused"
        case EngineFailed():
            return "away" if error.status == 503 else "broke"
        case Unredactable():
            return "unredactable"
        case Away():
            return "not_kept"
    return "unforeseen"
