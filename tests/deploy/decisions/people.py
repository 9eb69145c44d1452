"""A public for rollouts: users who come, are enrolled, are answered and rate, and whose events are facts when this returns."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from deploy.control.store import Control
from deploy.rules.assignment import Conversation
from feedback.facts.tables import Batch, Row
from feedback.facts.writer import FactsWriter
from feedback.records import Rating, Turn
from tests.fakes import CLOCK, ManualClock

TENANT = "default"


def settle_draws(monkeypatch: pytest.MonkeyPatch, byte: str = "5a") -> None:
    """Rollouts get the same id and salt each time, so that the same users come to the same arms."""
    monkeypatch.setattr("deploy.decisions.moves.secrets", SimpleNamespace(token_hex=lambda many: byte * many))


class People:
    """`come` lets so many new users come within a time, each with one conversation of one reply."""

    def __init__(self, control: Control, facts: Path, clock: ManualClock, seed: int = 1) -> None:
        self._control, self._clock = control, clock
        self._writer = FactsWriter(facts, lambda topic: "log", CLOCK)
        self._random, self._came, self._offset = np.random.default_rng(seed), 0, 0

    def come(
        self, many: int, within_s: float, errors: tuple[float, float] = (0.02, 0.02), dislikes: float = 0.05
    ) -> None:
        """`errors`: how often the incumbent's and the candidate's replies fail."""
        turns, ratings = [], []
        begins = [self._clock.now_us() + round(within_s * 1e6 * (number + 1) / many) for number in range(many)]
        users = [f"u{self._came + number}" for number in range(many)]
        self._came += many
        new = [Conversation(TENANT, f"c-{name}", name, at_us) for name, at_us in zip(users, begins, strict=True)]
        for exposure, name, now_us in zip(self._control.expose_all(new), users, begins, strict=True):
            failed = self._random.random() < errors[exposure.arm == "candidate"]
            served = turn_of(name, now_us, outcome="error" if failed else "ok")
            turns.append(row(served, now_us))
            if self._random.random() < dislikes:
                ratings.append(row(thumbs(served, False, now_us + 60_000_000), now_us + 61_000_000))
        self._clock.set_forward(within_s)
        self._commit("turns.served", turns)
        self._commit("ratings.given", ratings)

    def tell(self, turns: list[Turn], ratings: list[Rating]) -> None:
        """These, which are received now."""
        now_us = self._clock.now_us()
        self._commit("turns.served", [row(turn, now_us) for turn in turns])
        self._commit("ratings.given", [row(rating, now_us) for rating in ratings])

    def _commit(self, topic: str, rows: list[Row]) -> None:
        placed = tuple(
            Row(one.event, one.content_hash, one.record_digest, self._offset + number, one.received_at_us)
            for number, one in enumerate(rows)
        )
        self._offset += len(rows)
        self._writer.commit([Batch(topic, 0, placed, self._offset)])


def commit(facts: Path, turns: Sequence[Turn]) -> None:
    """Make facts of these turns."""
    rows = tuple(Row(turn, f"h-{n}", f"d-{n}", n, turn.occurred_at_us) for n, turn in enumerate(turns))
    FactsWriter(facts, lambda topic: "log", CLOCK).commit([Batch("turns.served", 0, rows, len(rows))])


def turn_of(user: str, at_us: int, conversation_id: str | None = None, **changes: object) -> Turn:
    """One that this gateway served."""
    conversation = conversation_id or f"c-{user}"
    fields = {
        "tenant": TENANT,
        "event_id": f"e-{conversation}-{at_us}",
        "conversation_id": conversation,
        "turn_id": f"t-{conversation}-{at_us}",
        "occurred_at_us": at_us,
        "messages": [{"role": "user", "content": "where is it?"}],
        "reply": "on its way",
        "policy": "p",
        "user_id": user,
        "origin": "gateway",
    }
    return Turn(**(fields | changes))  # type: ignore[arg-type]


def thumbs(turn: Turn, value: bool | int | None, at_us: int, event_id: str | None = None, **changes: object) -> Rating:
    """A user's, of this turn."""
    fields = {
        "tenant": turn.tenant,
        "event_id": event_id or f"r-{turn.turn_id}-{at_us}",
        "conversation_id": turn.conversation_id,
        "turn_id": turn.turn_id,
        "occurred_at_us": at_us,
        "source": "user",
        "kind": "thumbs",
        "value": value,
        "user_id": turn.user_id,
        "origin": "feedback",
    }
    return Rating(**(fields | changes))  # type: ignore[arg-type]


def row(event: Turn | Rating, received_at_us: int) -> Row:
    return Row(event, f"h-{event.event_id}", f"d-{event.event_id}", 0, received_at_us)
