"""Which turns go to the judge, and when: a turn without a rating of its own after its grace period. Pure.

Live, grace runs on the time of receipt: `step` is told events and the clock, and keeps the turns that still wait. A
replay knows everything already and routes once, with `unrouted`. Both give a question the same id.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field

from feedback.content import prompt_of, text_of, untrainable
from feedback.exchanges import is_rated
from feedback.records import Exchange, JudgeRequest, Rating, Turn

COUNT_AS_RATED = frozenset({"thumbs", "stars", "pick", "edit"})

Key = tuple[str, str]
"""Tenant and turn id."""


@dataclass
class State:
    """The turns of one partition that wait for a rating, and ratings that came before their turn."""

    grace_us: int
    waiting: dict[Key, tuple[int, Turn]] = field(default_factory=dict)
    """Turns by when they are due, in order of receipt."""
    rated: dict[Key, int] = field(default_factory=dict)
    """Turns that were rated, kept for a grace period: their turn may come later, or again."""


def step(state: State, event: Turn | Rating | None, received_at_us: int, now_us: int) -> list[JudgeRequest]:
    """Take one event in (None: only the clock moved) and answer the questions that are due now."""
    if isinstance(event, Rating):
        if event.turn_id is not None and event.kind in COUNT_AS_RATED and event.value is not None:
            key = (event.tenant, event.turn_id)
            state.rated[key] = received_at_us + state.grace_us
            state.waiting.pop(key, None)
    elif event is not None:
        key = (event.tenant, event.turn_id)
        if key not in state.rated and key not in state.waiting and untrainable(event) is None:
            state.waiting[key] = (received_at_us + state.grace_us, event)
    return _due(state, now_us)


def unrouted(exchanges: Iterable[Exchange]) -> list[JudgeRequest]:
    """Questions for every exchange that nobody rated and no verdict speaks of, sorted by id."""
    open_turns = {
        (exchange.turn.tenant, exchange.turn.turn_id): exchange.turn
        for exchange in exchanges
        if not is_rated(exchange) and not exchange.verdicts and untrainable(exchange.turn) is None
    }
    return sorted(_questions(open_turns), key=lambda request: request.request_id)


def request_id(tenant: str, turn_id: str, other_turn_id: str | None = None) -> str:
    """The id of a question: the same for the same turns, whoever asks and when."""
    text = "\x00".join((tenant, turn_id, other_turn_id or ""))
    return f"q-{hashlib.sha256(text.encode()).hexdigest()[:32]}"


def _due(state: State, now_us: int) -> list[JudgeRequest]:
    due: dict[Key, Turn] = {}
    for key, (due_us, turn) in list(state.waiting.items()):
        if due_us > now_us:
            break  # in order of receipt, so in order of time
        due[key] = turn
        if turn.replaces is not None and (tenant_turn := (turn.tenant, turn.replaces)) in state.waiting:
            due[tenant_turn] = state.waiting[tenant_turn][1]
    for key, (_, turn) in list(state.waiting.items()):  # a regenerated reply that still waits goes with the first
        if turn.replaces is not None and (turn.tenant, turn.replaces) in due:
            due[key] = turn
    for key in due:
        del state.waiting[key]
    while state.rated and next(iter(state.rated.values())) <= now_us:
        del state.rated[next(iter(state.rated))]
    return list(_questions(due))


def _questions(turns: dict[Key, Turn]) -> Iterable[JudgeRequest]:
    """A comparison for a reply and the one that it replaced, where both are asked about; else one question each."""
    compared: set[Key] = set()
    for key in sorted(turns):
        turn = turns[key]
        other = turns.get((turn.tenant, turn.replaces)) if turn.replaces is not None else None
        other_key = (turn.tenant, turn.replaces or "")
        if (
            other is None
            or key in compared
            or other_key in compared
            or prompt_of(other.messages) != prompt_of(turn.messages)
        ):
            continue
        compared |= {key, other_key}
        yield _request(turn, other)
    for key in sorted(turns.keys() - compared):
        yield _request(turns[key], None)


def _request(turn: Turn, other: Turn | None) -> JudgeRequest:
    reply = text_of(turn.reply)
    assert reply is not None  # an untrainable turn never comes this far
    return JudgeRequest(
        request_id=request_id(turn.tenant, turn.turn_id, other.turn_id if other else None),
        tenant=turn.tenant,
        conversation_id=turn.conversation_id,
        turn_id=turn.turn_id,
        messages=turn.messages,
        reply=reply,
        locale=turn.locale,
        other_turn_id=other.turn_id if other else None,
        other_reply=text_of(other.reply) if other else None,
    )
