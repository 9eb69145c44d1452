"""What only looks: lists, one candidate, what is served, history. Nothing in here writes or seals."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from deploy.control.records import Candidate
from deploy.control.shadows import ended_shadows, held_shadow, read_shadow, tally_shadow
from deploy.control.store import Control
from deploy.control.trainings import open_request
from deploy.control.transaction import Transaction
from deploy.decisions.evidence import EvidenceRoom, Report
from deploy.decisions.standing import because
from deploy.decisions.views import (
    described,
    described_approval,
    described_candidate,
    described_look,
    described_objection,
    described_periods,
    described_shadow,
    finite,
    look_at,
    mismatched,
    served,
    too_early,
)
from deploy.rules.next_step import InShadow, Look, Situation, next_step
from deploy.rules.rollout import Serving
from feedback.clock import Clock

PAGE = 50
"""Candidates or entries of one page."""


class Looking:
    """Reads over one control database and the candidates on disk."""

    def __init__(
        self,
        control: Control,
        clock: Clock,
        room: EvidenceRoom,
        adapters: Callable[[], bool],
        shadows: Callable[[], bool],
    ) -> None:
        """`adapters` says whether the engine takes them, `shadows` whether live turns are copied to a candidate at all."""
        self.control, self._clock, self._room = control, clock, room
        self._adapters, self._shadows = adapters, shadows

    def candidates(self, limit: int | None = PAGE, after: str | None = None) -> list[dict[str, Any]]:
        """A page of the candidates, newest first, each with its last seal; `after`: those after this one."""
        with self.control.read() as tx:
            found = tx.candidates(limit, tx.candidate(after) if after is not None else None)
            seals, serving, now = tx.seals(found), tx.serving(), self._clock.now_us()
        return [described_candidate(candidate, seals.get(candidate.digest), serving, now) for candidate in found]

    def described(self, digest: str, report: Report | None) -> dict[str, Any]:
        """One candidate with its report, approvals, shares and history, as it was last sealed."""
        with self.control.read() as tx:
            candidate = tx.candidate(digest)
            rollouts = {approval.rollout_id for approval in tx.approvals(digest)}
            return {
                **self._view(tx, candidate),
                "approvals": [described_approval(approval) for approval in tx.approvals(digest)],
                "objections": [described_objection(objection) for objection in tx.objections(digest)],
                "shares": described_periods([period for name in sorted(rollouts) for period in tx.periods(name)]),
                "looks": [described_look(tx.look(name)) for name in sorted(rollouts) if tx.look(name) is not None],
                "shadow": self._shadow(tx, digest),
                "history": [described(entry) for entry in tx.history(subject=digest)],
                "report": finite(report.content) if report else None,
                "next": next_step(self._situation(tx, tx.serving(), candidate)),
            }

    def serving(self, **known: Any) -> dict[str, Any]:
        """What is served now, and what to type next; `known` is what the caller knows of `Situation` besides."""
        with self.control.read() as tx:
            return self._served(tx, tx.serving(), known)

    def history(self, limit: int = PAGE, subject: str | None = None, before: int | None = None) -> list[dict[str, Any]]:
        """Who did what, when and why, newest first: all, or of one candidate (its digest), key or training."""
        with self.control.read() as tx:
            return [described(entry) for entry in tx.history(limit, subject, before)]

    def periods(self, limit: int = PAGE) -> list[dict[str, Any]]:
        """Who served what from when to when, newest first."""
        with self.control.read() as tx:
            return described_periods(tx.periods(limit=limit))

    def _view(self, tx: Transaction, candidate: Candidate) -> dict[str, Any]:
        seal, serving, now = tx.current_seal(candidate), tx.serving(), self._clock.now_us()
        return described_candidate(candidate, seal, serving, now)

    def _served(self, tx: Transaction, serving: Serving, known: Mapping[str, Any] = {}) -> dict[str, Any]:
        look = tx.look(serving.rollout.id) if serving.rollout is not None else None
        situation = self._situation(tx, serving, **known)
        waits = situation.waiting
        next_up = serving.rollout.candidate if serving.rollout is not None else waits and waits.digest
        return served(serving, look) | {
            "because": because(tx, serving),
            "shadow": self._shadow(tx),
            "objections": [described_objection(one) for one in tx.objections(next_up)] if next_up else [],
            "next": next_step(situation),
        }

    def _shadow(self, tx: Transaction, digest: str | None = None) -> dict[str, Any] | None:
        """That of this candidate; None: the one under way, else the one that waits for a person since it ended."""
        under_way = read_shadow(tx.connection)
        if digest is None:
            digest = under_way.candidate if under_way is not None else held_shadow(tx.connection)
        if digest is None:
            return None
        own = under_way if under_way is not None and under_way.candidate == digest else None
        ended = ended_shadows(tx.connection, [digest]).get(digest)
        return described_shadow(own, ended, tally_shadow(tx.connection, digest))

    def _situation(
        self, tx: Transaction, serving: Serving, candidate: Candidate | None = None, **known: Any
    ) -> Situation:
        waiting = next(iter(tx.candidates(1, states=("held", "passed"))), None)
        look = tx.look(serving.rollout.id) if serving.rollout is not None else None
        request = open_request(tx.connection)
        return Situation(
            serving,
            self._look(tx, candidate) if candidate is not None else None,
            look_at(waiting, tx.current_seal(waiting)) if waiting is not None else None,
            request.name if request is not None and request.answer is None else None,
            **{"trained": bool(tx.candidates(1)), "adapters": self._adapters(), **known},
            mismatched=look is not None and mismatched(look.document),
            undecided=look is not None and too_early(look, serving) is not None,
        )

    def _look(self, tx: Transaction, candidate: Candidate) -> Look:
        under_way = read_shadow(tx.connection)
        shadow: InShadow = "may begin" if self._shadows() else "off"
        if under_way is not None and under_way.candidate == candidate.digest:
            shadow = "under way"
        return look_at(candidate, tx.current_seal(candidate), shadow, bool(tx.objections(candidate.digest)))
