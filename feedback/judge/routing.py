"""Which turns go to the judge, and when: a turn without a rating of its own after its grace period. Pure.

Live, grace runs on the time of receipt: `step` is told events and the clock, and keeps the turns that still wait. A
replay knows everything already and routes once, with `unrouted`, when somebody has seen what it will come to: what files
brought is never asked about here. Both give a question the same id.

A regenerated reply and the one that it replaced wait for each other, so that both have their whole grace period and the
order in which events arrive decides nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from heapq import heappop, heappush

import xxhash

from feedback.content import question_of, text_of, untrainable
from feedback.digests import edit_digest
from feedback.records import RATED_BY, JudgeRequest, Rating, Turn, TurnKey, Unjudged

MAX_HALVINGS = 30

LEAST_EDIT_GRACE_US = 60_000_000
"""An edit's turn is looked up among the facts: by then it is there."""


@dataclass
class State:
    """The turns of one partition that wait for a rating, and those that no longer do."""

    grace_us: int
    waiting: dict[TurnKey, tuple[int, Turn]] = field(default_factory=dict)
    """Turns by when they are due: their own grace is over, and that of the turns that they wait for."""
    settled: dict[TurnKey, int] = field(default_factory=dict)
    """Turns that were rated or asked about, kept for a grace period: their turn may come later, or again."""
    timers: list[tuple[int, TurnKey]] = field(default_factory=list)
    """A heap of when to look at a waiting turn; of one that no longer waits it says nothing."""
    replacing: dict[TurnKey, set[TurnKey]] = field(default_factory=dict)
    """Waiting turns by the turn that they name as replaced."""
    edits: dict[TurnKey, tuple[int, Rating]] = field(default_factory=dict)
    """The last edit of each turn by people without a name, by when it is due: they may change it for a grace period."""


def step(state: State, event: Turn | Rating | None, received_at_us: int, now_us: int) -> list[JudgeRequest]:
    """Take one event in (None: only the clock moved) and answer the questions that are due now."""
    if isinstance(event, Rating):
        if event.key is not None and event.kind in RATED_BY and event.value is not None:
            _settle(state, event.key, received_at_us)
        if event.origin != "file":
            _note_edit(state, event, received_at_us)
    elif event is not None and event.origin != "file":
        key = event.key
        if key not in state.settled and key not in state.waiting and untrainable(event) is None:
            _wait(state, key, event, received_at_us + state.grace_us)
    due = _due(state, now_us)
    for key in due:
        _settle(state, key, now_us)
    _forget(state, now_us)
    return list(_questions(due)) if due else []


def merge(state: State, other: State) -> None:
    """Take into `state` what `other` knows of the same partition."""
    for key, until_us in other.settled.items():
        _settle(state, key, until_us - state.grace_us)
    for key, (due_us, turn) in other.waiting.items():
        if key not in state.settled and key not in state.waiting:
            _wait(state, key, turn, due_us)
    for due_us, edit in other.edits.values():
        _note_edit(state, edit, due_us - _edit_grace_us(state))


def due_edits(state: State, now_us: int) -> list[Rating]:
    """The edits that nobody has changed for a grace period, once: questions for the judge, with their turns."""
    due = list[Rating]()
    while state.edits:
        key, (due_us, edit) = next(iter(state.edits.items()))
        if due_us > now_us:
            break
        del state.edits[key]
        if edit.value is not None:
            due.append(edit)
    return due


def set_back(state: State, now_us: int) -> None:
    """The clock was ahead and came back to this: nothing waits for longer than a grace period from now on."""
    latest_us = now_us + state.grace_us
    state.settled = {key: min(until_us, latest_us) for key, until_us in state.settled.items()}
    state.waiting = {key: (min(due_us, latest_us), turn) for key, (due_us, turn) in state.waiting.items()}
    state.timers = sorted((due_us, key) for key, (due_us, _) in state.waiting.items())


def unrouted(turns: Iterable[Turn], settled: Container[TurnKey]) -> list[JudgeRequest]:
    """Questions for every turn but those that somebody rated or a verdict speaks of, sorted by id."""
    open_turns = {turn.key: turn for turn in turns if turn.key not in settled and untrainable(turn) is None}
    return sorted(_questions(open_turns), key=lambda request: request.request_id)


def edit_question(turn: Turn, edited: str) -> JudgeRequest | None:
    """Whether what somebody made of a reply is better than the reply; None where nothing is learned of such a turn."""
    if untrainable(turn) is not None:
        return None
    reply = text_of(turn.reply)
    assert reply is not None
    digest = edit_digest(reply, edited)
    name = hashlib.sha256("\x00".join((*turn.key, "edit", digest)).encode()).hexdigest()
    return JudgeRequest(
        request_id=f"q-{name[:32]}",
        tenant=turn.tenant,
        conversation_id=turn.conversation_id,
        turn_id=turn.turn_id,
        messages=turn.messages,
        reply=edited,
        locale=turn.locale,
        other_reply=reply,
        edit=digest,
    )


def sampled(requests: Iterable[JudgeRequest], waiting: int, room: int) -> tuple[list[JudgeRequest], list[JudgeRequest]]:
    """Which questions are asked while `waiting` others wait, and which are not.

    All, while there is room. Then every second; at twice as many every fourth, at three times every eighth: by a hash of the
    question's id, so that the sample favours nobody and is the same wherever it is drawn.
    """
    every = 1 << min(waiting // room, MAX_HALVINGS)
    asked, left = list[JudgeRequest](), list[JudgeRequest]()
    for request in requests:
        (left if xxhash.xxh3_64_intdigest(request.request_id.encode()) % every else asked).append(request)
    return asked, left


def unjudged(request: JudgeRequest, reason: str, now_us: int) -> Unjudged:
    """That a question was not asked, and why."""
    name = hashlib.sha256(f"{request.request_id}:{reason}".encode()).hexdigest()[:32]
    return Unjudged(
        verdict_id=f"v-{name}",
        request_id=request.request_id,
        tenant=request.tenant,
        conversation_id=request.conversation_id,
        turn_id=request.turn_id,
        other_turn_id=request.other_turn_id,
        edit=request.edit,
        occurred_at_us=now_us,
        reason=reason,
    )


def request_id(turn: TurnKey, other_turn_id: str | None = None) -> str:
    """The id of a question: the same for the same turns, whoever asks and when."""
    text = "\x00".join((*turn, other_turn_id or ""))
    return f"q-{hashlib.sha256(text.encode()).hexdigest()[:32]}"


def _wait(state: State, key: TurnKey, turn: Turn, due_us: int) -> None:
    state.waiting[key] = (due_us, turn)
    heappush(state.timers, (due_us, key))
    if turn.replaces is not None:
        state.replacing.setdefault((*key[:2], turn.replaces), set()).add(key)


def _note_edit(state: State, rating: Rating, received_at_us: int) -> None:
    if rating.key is None or rating.kind != "edit" or rating.source != "user" or rating.user_id is not None:
        return
    held = state.edits.pop(rating.key, None)  # last in, last out
    edit = rating if held is None else max(held[1], rating, key=lambda given: (given.occurred_at_us, given.event_id))
    state.edits[rating.key] = (received_at_us + _edit_grace_us(state), edit)


def _edit_grace_us(state: State) -> int:
    return max(state.grace_us, LEAST_EDIT_GRACE_US)


def _settle(state: State, key: TurnKey, at_us: int) -> None:
    """The turn waits no longer, and comes in vain for a grace period."""
    state.settled.pop(key, None)  # last in, last out
    state.settled[key] = at_us + state.grace_us
    _, turn = state.waiting.pop(key, (0, None))
    if turn is not None and turn.replaces is not None:
        replaced = (*key[:2], turn.replaces)
        state.replacing[replaced].discard(key)
        if not state.replacing[replaced]:
            del state.replacing[replaced]


def _forget(state: State, now_us: int) -> None:
    while state.settled:
        oldest = next(iter(state.settled))
        if state.settled[oldest] > now_us:
            break
        del state.settled[oldest]


def _due(state: State, now_us: int) -> dict[TurnKey, Turn]:
    """Waiting turns whose grace is over, and that of every turn that they may be compared with."""
    due: dict[TurnKey, Turn] = {}
    while state.timers and state.timers[0][0] <= now_us:
        _, key = heappop(state.timers)
        if key not in state.waiting or key in due:
            continue
        due_us, turn = state.waiting[key]
        if due_us <= now_us:
            if turn.replaces is None and key not in state.replacing:  # nearly all: nothing to be compared with
                due[key] = turn
                continue
            together = _together(state, key)
            last_us = max(state.waiting[member][0] for member in together)
            if last_us <= now_us:
                due.update((member, state.waiting[member][1]) for member in together)
                continue
            for member in together:
                state.waiting[member] = (last_us, state.waiting[member][1])
        heappush(state.timers, (state.waiting[key][0], key))
    return due


def _together(state: State, key: TurnKey) -> set[TurnKey]:
    """The turn and all waiting turns that a chain of replacements links it with."""
    found, open_ends = {key}, [key]
    while open_ends:
        at = open_ends.pop()
        turn = state.waiting[at][1]
        links = {(at, (*at[:2], turn.replaces or ""))} | {(other, at) for other in state.replacing.get(at, ())}
        for second, first in links:
            if first in state.waiting and _comparable(state.waiting[second][1], state.waiting[first][1]):
                new = {second, first} - found
                found |= new
                open_ends.extend(new)
    return found


def _comparable(second: Turn, first: Turn) -> bool:
    """Whether `second` is another reply to what `first`, of the same conversation, answers."""
    return second.turn_id != first.turn_id and (
        second.messages == first.messages or question_of(second.messages) == question_of(first.messages)
    )


def _questions(turns: Mapping[TurnKey, Turn]) -> Iterator[JudgeRequest]:
    """A comparison for a reply and the one that it replaced, where both are asked about; else one question each."""
    compared: set[TurnKey] = set()
    for key in sorted([key for key, turn in turns.items() if turn.replaces is not None]):
        turn = turns[key]
        replaced = (*key[:2], turn.replaces or "")
        first = turns.get(replaced)
        if first is not None and not compared & {key, replaced} and _comparable(turn, first):
            compared |= {key, replaced}
            yield _request(turn, first)
    for key in sorted(turns):
        if key not in compared:
            yield _request(turns[key], None)


def _request(turn: Turn, other: Turn | None) -> JudgeRequest:
    reply = text_of(turn.reply)
    assert reply is not None  # an untrainable turn never comes this far
    return JudgeRequest(
        request_id=request_id(turn.key, other.turn_id if other else None),
        tenant=turn.tenant,
        conversation_id=turn.conversation_id,
        turn_id=turn.turn_id,
        messages=turn.messages,
        reply=reply,
        locale=turn.locale,
        other_turn_id=other.turn_id if other else None,
        other_reply=text_of(other.reply) if other else None,
    )
