"""Candidates on their way into the list: registered once they are whole, sealed, and sealed anew when things have changed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from deploy.control import comparisons
from deploy.control.history import Entry
from deploy.control.records import Candidate, Seal
from deploy.control.store import Control
from deploy.control.transaction import Transaction
from deploy.decisions.comparing import Comparing
from deploy.decisions.evidence import EvidenceRoom, Report, Served, Weighed, policy_of
from deploy.decisions.looking import Looking
from deploy.decisions.moves import start
from deploy.errors import Failed
from deploy.rules.approval import Policy, changes, evidence_of
from deploy.rules.names import short
from deploy.rules.reasons import Reason
from deploy.settings import Settings
from feedback.clock import Clock
from feedback.facts.tables import LATEST_US
from models.adapters import MARKER

RESEALED = 50
"""Open candidates that the controller looks at again in one go, the newest first."""


class _Head(Struct, frozen=True):
    """What a report says of its candidate."""

    digest: str
    created_at_us: Annotated[int, Meta(ge=0, le=LATEST_US)]
    snapshot: str
    dataset_hash: str


class Registering(Looking):
    """What the trainer and the controller do with candidates by themselves. `settings` is called only where a rule needs it."""

    def __init__(
        self,
        control: Control,
        settings: Callable[[], Settings],
        candidates: Path,
        clock: Clock,
        weighed: Weighed | None = None,
        served: Served = lambda: None,
    ) -> None:
        """`weighed`: what comparisons come to, where it is not what the control database has of them."""
        self._comparing = Comparing(candidates, settings)
        room = EvidenceRoom(candidates, weighed or self._comparing.weighed, served)
        super().__init__(control, clock, room, self._takes_adapters, self._shadows_candidates)
        self._settings = settings

    def register(self, digest: str, actor: str = "trainer") -> dict[str, Any]:
        """Take the finished candidate directory of this digest into the list and let the gate decide; again is fine.

        Raises Failed when its files are not what its digest promises.
        """
        report, now = self._room.verified(digest), self._clock.now_us()
        head = _head(report, digest)
        fresh = Candidate(
            digest, head.snapshot, head.dataset_hash, report.sha256, head.created_at_us, now, "trained", "gate"
        )
        with self.control.read() as tx:
            known = tx.knows(digest)
        pairs = [] if known else self._comparing.sampled(fresh, report.content, now)
        with self.control.change() as tx:
            if not tx.knows(digest):
                tx.add_candidate(fresh)
                comparisons.add(tx.connection, pairs)
                told = {"snapshot": head.snapshot, "dataset_hash": head.dataset_hash}
                tx.append(Entry(now, actor, "register", digest, None, "trained", f"trained on {head.snapshot}", told))
                self._decide(tx, fresh, report, now)
            return self._view(tx, tx.candidate(digest))

    def discover(self) -> list[str]:
        """Register every finished candidate directory that is not known yet; returns a sentence for each that can't be."""
        problems = []
        for digest in self.unregistered():
            try:
                self.register(digest)
            except Failed as error:
                problems.append(str(error))
        return problems

    def unregistered(self) -> list[str]:
        """Names of finished candidate directories that are not in the list yet."""
        with self.control.read() as tx:
            known = tx.digests()
        return sorted(
            path.parent.name for path in self._room.folder.glob(f"*/{MARKER}") if path.parent.name not in known
        )

    def reseal(self) -> None:
        """The controller's look: the newest candidates whose fate is open are sealed anew where their evidence changed."""
        policy, now = policy_of(self._settings()), self._clock.now_us()
        with self.control.read() as tx:
            waiting = tx.candidates(RESEALED, states=("trained", "held", "passed"))
            serving, seals = tx.serving(), tx.seals(waiting)
            stale = [c for c in waiting if not _stands(seals.get(c.digest), policy, serving.incumbent)]
        reports = {candidate.digest: self._room.report(candidate.digest) for candidate in stale}
        for candidate in stale:
            if (report := reports[candidate.digest]) is not None:
                with self.control.change() as tx:
                    self._room.seal(tx, tx.candidate(candidate.digest), report, policy, now)

    def recount(self) -> tuple[Reason, ...]:
        """The controller's other look: at what people and the judge have said meanwhile. Where the gate would decide otherwise now,
        or for another reason, the candidate is sealed anew. Returns what is said now of the newest, nothing where there is none."""
        policy, now = policy_of(self._settings()), self._clock.now_us()
        with self.control.read() as tx:
            waiting = tx.candidates(RESEALED, states=("trained", "held", "passed"))
            seals = tx.seals(waiting)
        said: tuple[Reason, ...] = ()
        for candidate in waiting:
            seal, report = seals.get(candidate.digest), self._room.report(candidate.digest)
            if seal is None or report is None:
                continue
            with self.control.read() as tx:
                present = self._room.evidence(tx, candidate, report, policy, now)
            if candidate == waiting[0]:
                said = present.reasons
            if any(changes(evidence_of(seal.evidence), present)):
                with self.control.change() as tx:
                    self._decide(tx, tx.candidate(candidate.digest), report, now)
        return said

    def _decide(self, tx: Transaction, candidate: Candidate, report: Report, now: int) -> None:
        """Seal what is true now; what passed is approved where nobody wants to be asked."""
        settings = self._settings()
        seal = self._room.seal(tx, candidate, report, policy_of(settings), now)
        by_rule = "rollout" not in settings.approve.before and settings.engine.takes_adapters
        if seal.decision == "pass" and by_rule and not tx.objections(candidate.digest):
            _approve_by_rule(tx, tx.candidate(candidate.digest), seal, now)

    def show(self, prefix: str) -> dict[str, Any]:
        """One candidate with its report, comparisons, approvals and history; seals what is true now. Raises UnknownCandidate."""
        with self.control.read() as tx:
            digest = tx.candidate(prefix).digest
        report, now = self._room.report(digest), self._clock.now_us()
        if report is not None:
            policy = policy_of(self._settings())
            with self.control.change() as tx:
                self._room.seal(tx, tx.candidate(digest), report, policy, now)
        with self.control.read() as tx:
            compared = self._room.compared(tx, tx.candidate(digest), now).figures
        return self.described(digest, report) | {"comparisons": compared}

    def _takes_adapters(self) -> bool:
        return self._where_known(lambda settings: settings.engine.takes_adapters)

    def _shadows_candidates(self) -> bool:
        return self._where_known(lambda settings: settings.shadow.share > 0)

    def _where_known(self, said: Callable[[Settings], bool]) -> bool:
        """Beside a broken trimtab.toml nobody knows: what it would refuse is then refused when it is tried."""
        try:
            return said(self._settings())
        except Failed:
            return True


def _approve_by_rule(tx: Transaction, candidate: Candidate, seal: Seal, now: int) -> None:
    """Nobody wants to be asked: a candidate that passed is approved, where there is room for a rollout."""
    serving = tx.serving()
    if serving.rollout is None and not serving.halted and candidate.state == "passed":
        start(tx, candidate, seal, "rule", "approve.before does not name rollout", False, now)


def _head(report: Report, digest: str) -> _Head:
    try:
        head = msgspec.convert(report.content, _Head)
    except msgspec.ValidationError as error:
        raise Failed(f"{short(digest)}/report.json is not a candidate's report: {error}") from None
    if head.digest != digest:
        raise Failed(f"{short(digest)}/report.json speaks of another candidate ({short(head.digest)})")
    return head


def _stands(seal: Seal | None, policy: Policy, incumbent: str | None) -> bool:
    """Whether a seal still says by which rules and against whom a candidate is judged; its figures may have moved."""
    if seal is None:
        return False
    sealed = evidence_of(seal.evidence)
    return sealed.policy == policy and sealed.incumbent == incumbent
