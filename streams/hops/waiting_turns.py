"""Which turns wait for a rating, per partition: the live shell around `feedback.judge.routing`.

Kept in memory and rebuilt from the facts at start, so there is no second truth: a turn that was still waiting when the
process ended waits on, one whose grace ran out meanwhile is routed at once.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from feedback.clock import Clock
from feedback.content import text_of
from feedback.digests import payload_of
from feedback.facts.reader import Facts
from feedback.judge import routing
from feedback.judge.routing import State
from feedback.labels.edits import asked_about, edited
from feedback.labels.exchanges import turns_of
from feedback.labels.outline import text_digest
from feedback.records import RANKS, JudgeRequest, Rating, Turn, TurnKey

LOOK_BACK_US = 86_400_000_000
"""A worker that was away for longer than a day beyond the grace period leaves what it missed to `trimtab replay`."""


class WaitingTurns:
    """One process's waiting turns."""

    def __init__(self, grace_s: float, clock: Clock) -> None:
        self._clock = clock
        self._grace_us = round(grace_s * 1e6)
        self._states: dict[int, State] = defaultdict(lambda: State(self._grace_us))
        self._owned: set[int] = set()
        self._looked_us = 0
        """When it was last asked what is due."""

    def observe(self, partition: int, event: Turn | Rating, received_at_us: int) -> list[JudgeRequest]:
        """Take one event in; answers what is due in its partition."""
        now_us = self._clock.now_us()  # what was received later than now was by a clock that was ahead
        return routing.step(self._states[partition], event, min(received_at_us, now_us), now_us)

    def due(self, now_us: int) -> list[JudgeRequest]:
        """What has become due anywhere."""
        if now_us < self._looked_us:
            for state in self._states.values():
                routing.set_back(state, now_us)
        self._looked_us = now_us
        return [request for state in self._states.values() for request in routing.step(state, None, now_us, now_us)]

    def due_edits(self, now_us: int) -> list[Rating]:
        """Edits by people without a name that have become due anywhere, each once; `edit_questions` asks about them."""
        return [edit for state in self._states.values() for edit in routing.due_edits(state, now_us)]

    def waiting(self) -> int:
        """Turns within their grace period."""
        return sum(len(state.waiting) for state in self._states.values())

    def rebuilt(self, partitions: set[int], facts: Facts, now_us: int) -> dict[int, State]:
        """What whoever had these partitions ended with: their turns that nobody rated and no verdict speaks of."""
        new = partitions - self._owned
        states = {partition: State(self._grace_us) for partition in new}
        if not new:
            return states
        since_us = now_us - self._grace_us - LOOK_BACK_US
        judged = {key for verdict in facts.verdicts() if verdict.edit is None for key in turns_of(verdict)}
        for partition, at_us, event in sorted(facts.received_since(since_us), key=lambda item: item[1]):
            if partition in new and (isinstance(event, Rating) or event.key not in judged):
                # the clock stands still while this is read: what is due is routed by the first `due`
                routing.step(states[partition], event, min(at_us, now_us), 0)
        return states

    def own(self, partitions: set[int], rebuilt: dict[int, State]) -> None:
        """Answer for these partitions and no others, the new ones as `rebuilt`; what came of them meanwhile is kept."""
        for lost in self._states.keys() - partitions:
            del self._states[lost]
        for partition, state in rebuilt.items():
            if (meanwhile := self._states.get(partition)) is not None:
                routing.merge(state, meanwhile)
            self._states[partition] = state
        self._owned = partitions


def edit_questions(facts: Facts, edits: Iterable[Rating]) -> list[JudgeRequest]:
    """The questions about these edits, for which their turns are looked up: of one that is not known there is none. Reads
    whole columns of the facts."""
    asked = {edit.key: edit for edit in edits if edit.key is not None}
    turns: dict[TurnKey, tuple[tuple[int, bytes], Turn]] = {}
    for turn, content_hash in facts.turns_of(asked.keys()):
        rank = -RANKS[turn.origin], payload_of(*turn.key, content_hash)
        turns[turn.key] = min(turns.get(turn.key, (rank, turn)), (rank, turn), key=lambda held: held[0])
    questions = (edit_question(turn, asked[key]) for key, (_, turn) in sorted(turns.items()))
    return [question for question in questions if question is not None]


def edit_question(turn: Turn, *ratings: Rating) -> JudgeRequest | None:
    """The question about the edit of a turn that is to be asked about, if there is one among its ratings."""
    edit = asked_about(ratings, text_digest(text_of(turn.reply) or ""))
    return None if edit is None else routing.edit_question(turn, edited(edit))
