"""The shadow stage's steps: which candidate answers a copy of some turns, as `deploy.rules.shadow` decides.

What is decided and what is stored are one transaction, so that of two controllers, or one that was killed and comes again,
one acts, and the other finds it done.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence

from deploy.control.history import Entry
from deploy.control.records import Candidate
from deploy.control.shadows import begin_shadow, end_shadow, ended_shadows, read_shadow
from deploy.control.transaction import Transaction
from deploy.decisions.evidence import OPEN
from deploy.decisions.registering import Registering
from deploy.rules.assignment import Shadow
from deploy.rules.reasons import codes, from_json
from deploy.rules.shadow import Begin, End, Outcome, Waiting, step
from deploy.serving_settings import ShadowSettings
from deploy.settings import Settings

CONTROLLER = "controller"
LOOKED_AT = 50
"""Candidates among which the one for the shadow is looked for, the newest."""


class Shadowing(Registering):
    """What the controller does with the shadow stage by itself."""

    def attend_shadow(self) -> str | None:
        """Do what is to be done now, by what was sealed; a sentence on it, None where nothing was. Raises Failed."""
        settings, now = self._settings(), self._clock.now_us()
        with self.control.read() as tx:
            if _step(tx, settings, now) is None:
                return None
        with self.control.change() as tx:
            todo = _step(tx, settings, now)
            match todo:
                case Begin():
                    begin(tx, tx.candidate(todo.candidate), settings.shadow, CONTROLLER, todo.why, now)
                case End():
                    under_way = read_shadow(tx.connection)
                    assert under_way is not None
                    end(tx, under_way, todo.outcome, CONTROLLER, todo.why, now)
                case None:  # another controller was quicker
                    return None
        return f"{type(todo).__name__.lower()}: {todo.why}"


def _step(tx: Transaction, settings: Settings, now: int) -> Begin | End | None:
    under_way = read_shadow(tx.connection)
    candidates = tx.candidates(LOOKED_AT, states=OPEN) if under_way is None else [tx.candidate(under_way.candidate)]
    takes_adapters = settings.engine.takes_adapters
    return step(under_way, waiting(tx, candidates), tx.serving(), settings.shadow, takes_adapters, now)


def waiting(tx: Transaction, candidates: Sequence[Candidate]) -> list[Waiting]:
    """Candidates as they were sealed last, the newest first."""
    seals = tx.seals(candidates)
    ended = ended_shadows(tx.connection, [candidate.digest for candidate in candidates])
    found = []
    for candidate in candidates:
        seal, last = seals.get(candidate.digest), ended.get(candidate.digest)
        found.append(
            Waiting(
                candidate.digest,
                candidate.state in OPEN and candidate.rejected_by is None,
                seal.decision if seal is not None else None,
                codes(from_json(list(seal.reasons))) if seal is not None else frozenset(),
                bool(tx.objections(candidate.digest)),
                last.outcome if last is not None else None,
            )
        )
    return found


def begin(tx: Transaction, candidate: Candidate, settings: ShadowSettings, actor: str, why: str, now: int) -> None:
    """There must be none under way."""
    name, salt = f"s-{secrets.token_hex(8)}", secrets.token_hex(32)
    shadow = Shadow(name, candidate.digest, now, settings.min_s, settings.max_s, salt)
    begin_shadow(tx.connection, shadow)
    tx.move(candidate.digest, candidate.state, "shadow")
    data = {"shadow": shadow.id}
    tx.append(Entry(now, actor, "shadow", candidate.digest, candidate.state, "shadow", why, data))


def end(tx: Transaction, shadow: Shadow, outcome: Outcome, actor: str, why: str, now: int) -> None:
    """The history says how."""
    end_shadow(tx.connection, shadow, outcome, why, now)
    state, data = tx.candidate(shadow.candidate).state, {"shadow": shadow.id, "outcome": outcome}
    tx.append(Entry(now, actor, "shadow", shadow.candidate, "shadow", state, why, data))
