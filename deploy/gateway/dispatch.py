"""Who answers a chat request: the rollout's choice for its conversation, or the adapter that an operator names."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import structlog
from msgspec import Struct
from msgspec.structs import replace

from deploy.control.records import UnknownCandidate
from deploy.engine.port import ChatRequest, Engine, NotReady, Overloaded, Place, Unsupported
from deploy.gateway.breaker import Away
from deploy.gateway.control_link import ControlLink
from deploy.gateway.event_log import EventLog
from deploy.gateway.identity import NAMED, Identity, identify
from deploy.gateway.live_turn import RETRY_S, LiveTurn, Plan, explained, not_logged
from deploy.gateway.request import parse_chat
from deploy.gateway.shadowing import ShadowTurns
from deploy.gateway.turn_ids import TurnId, TurnIds
from deploy.rules.assignment import Arm
from deploy.serving_settings import GatewaySettings
from deploy.web.callers import Caller
from deploy.web.errors import ApiError, bad
from feedback.clock import Clock
from models.adapters import engine_name

_ADAPTER = re.compile(r"tt-[0-9a-f]{16}|[0-9a-f]{64}")

log = structlog.get_logger()


class Choice(Struct, frozen=True):
    """Who answers. `rollout` None: this turn is no evidence for the rollout."""

    adapter: str | None
    arm: Arm = "incumbent"
    rollout: dict[str, Any] | None = None


class Dispatcher:
    """Starts turns."""

    def __init__(
        self,
        settings: GatewaySettings,
        control: ControlLink,
        engine: Engine,
        events: EventLog,
        turn_ids: TurnIds,
        shadow: ShadowTurns,
        clock: Clock,
    ) -> None:
        self.settings, self.engine, self._shadow = settings, engine, shadow
        self._control, self._events, self._turn_ids, self._clock = control, events, turn_ids, clock
        self._turns: set[asyncio.Task[None]] = set()

    async def start(self, caller: Caller, body: Mapping[str, Any], header: str | None) -> LiveTurn:
        """The turn that answers `body`; `header` is X-Trimtab-Conversation's. Raises ApiError."""
        began_s, now_us = self._clock.monotonic_s(), self._clock.now_us()
        request = parse_chat(body)
        who = identify(caller.tenant, body, request.messages, header)
        request = replace(request, body=outgoing(body, self._events.edge.user))
        self._check_model(request.model, caller)
        if self.settings.on_full == "refuse" and self._events.full:  # before anything of the turn is stored
            raise not_logged()
        self._shadow.make_way()
        with _refusals(), self.engine.admit() as place:  # whoever is refused is refused before an exposure is stored
            await place.check(request)
            choice = await self._choose(place, caller.tenant, who, request, now_us)
            plan = self._plan(caller.tenant, who, request, choice, now_us)
            answer = place.begin(request)
        turn = LiveTurn(plan, answer, self._events, self.settings.on_full, began_s, self._clock)
        self._turns.add(turn.task)
        turn.task.add_done_callback(self._turns.discard)
        turn.task.add_done_callback(lambda _: self._shadow.after(turn))
        return turn

    async def drain(self) -> None:
        """Copy nothing more, and wait for the turns under way."""
        await self._shadow.close()
        await asyncio.gather(*self._turns, return_exceptions=True)

    def _plan(self, tenant: str, who: Identity, request: ChatRequest, choice: Choice, now_us: int) -> Plan:
        turn_ids = self._sealed(TurnId(tenant, who.conversation_id, choice.arm, choice.adapter, choices=request.n))
        base = self.engine.base(request.model)
        return Plan(tenant, who, request, turn_ids, base, choice.adapter, choice.arm, choice.rollout, now_us)

    def _sealed(self, turn: TurnId) -> tuple[str, ...]:
        """The ids of a turn's choices."""
        first = self._turn_ids.seal(turn)
        others = (self._turn_ids.choice(first, number) for number in range(1, turn.choices))
        return (first, *(other for other in others if other is not None))

    def _check_model(self, model: str, caller: Caller) -> None:
        if model in self.engine.names:
            return
        if not _ADAPTER.fullmatch(model) or not caller.allows("operate"):
            raise no_model(self.engine.names)

    async def _choose(self, place: Place, tenant: str, who: Identity, request: ChatRequest, now_us: int) -> Choice:
        if request.model not in self.engine.names:
            return await self._named(place, request.model)
        conversation_id = self._events.edge.kept(who.conversation_id)
        unit = self._events.edge.user(who.user_id) if who.user_id is not None else conversation_id
        exposure = await self._control.expose(tenant, conversation_id, unit, now_us)
        rollout = {"id": exposure.rollout_id, "arm": exposure.arm, "share": exposure.share}
        choice = Choice(exposure.policy, exposure.arm, rollout if exposure.rollout_id is not None else None)
        if exposure.policy is not None and not await place.hold(exposure.policy):
            return await self._instead(place, exposure.policy, choice)
        return choice

    async def _instead(self, place: Place, broken: str, choice: Choice) -> Choice:
        """Who answers when an adapter can't be loaded: the incumbent, else the base. It stays the arm's, and counts as its error."""
        routing = self._control.routing()
        incumbent = routing.policy("incumbent") if routing is not None else None
        if incumbent is not None and (incumbent == broken or not await place.hold(incumbent)):
            incumbent = None
        log.warning(
            "served_instead", wanted=engine_name(broken), adapter=engine_name(incumbent) if incumbent else "base"
        )
        stamp = choice.rollout | {"instead": True} if choice.rollout is not None else None
        return Choice(incumbent, choice.arm, stamp)

    async def _named(self, place: Place, model: str) -> Choice:
        try:
            halted, digest = await self._control.named(model)
        except UnknownCandidate as error:
            raise ApiError(404, "model_not_found", str(error), "model") from None
        if halted:
            raise ApiError(
                409, "halted", "everything is halted: only the bare base is served, under the usual model name"
            )
        if not await place.hold(digest, by_name=True):
            why = self.engine.why_not(digest) or "it is not there yet; try again"
            raise bad(f"{engine_name(digest)} can't be loaded: {why}", "model", "model_not_loadable")
        return Choice(digest)


def outgoing(body: Mapping[str, Any], hashed: Callable[[str], str]) -> dict[str, Any]:
    """A request as it leaves the house: without what is said to us alone, and with users' ids hashed."""
    sent = dict(body)
    for name in ("user", "safety_identifier"):
        if isinstance(sent.get(name), str) and sent[name]:
            sent[name] = hashed(sent[name])
    if isinstance(sent.get("metadata"), dict):
        sent["metadata"] = {name: value for name, value in sent["metadata"].items() if name not in NAMED}
        if not sent["metadata"]:
            del sent["metadata"]
    return sent


def no_model(names: Sequence[str]) -> ApiError:
    """A model was asked for that nobody serves."""
    known = " or ".join(repr(name) for name in names[:5])
    return ApiError(404, "model_not_found", f"there is no model of this name; ask for {known}", "model")


@contextmanager
def _refusals() -> Iterator[None]:
    """Why a chat can't be answered, as callers are told."""
    try:
        yield
    except (NotReady, Away) as error:
        raise _not_ready(str(error)) from None
    except Overloaded as error:
        raise ApiError(429, "overloaded", f"{error}: try again shortly", retry_after_s=RETRY_S) from None
    except Unsupported as error:
        raise explained(error) from None


def _not_ready(why: str) -> ApiError:
    return ApiError(503, "not_ready", why, retry_after_s=RETRY_S)
