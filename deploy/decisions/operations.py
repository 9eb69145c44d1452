"""What people (and the trainer) may do with candidates and the rollout: the one module that enforces the rules.

The command line and the admin API both call it. Each operation gathers, lets a pure function decide (`gate`,
`approval`, `rollout`), and stores the outcome together with its history, in one transaction.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import msgspec
from msgspec import Struct

from deploy.control.history import Entry
from deploy.control.store import Approval, Candidate, Control, Seal, Transaction
from deploy.control.trainings import TrainingRequest
from deploy.decisions.evidence import EvidenceRoom, Report, no_comparisons
from deploy.decisions.views import described, described_candidate, finite, served
from deploy.errors import Failed, Refused
from deploy.rules import approval, rollout
from deploy.rules.gate import Comparisons
from deploy.rules.rollout import STAGE_OF, Command, Moved, Serving
from deploy.settings import Settings
from deploy.text import iso, plain
from feedback.clock import Clock
from models.adapters import MARKER

MAX_REASON = 2_000


class _Head(Struct, frozen=True):
    """What a report says of its candidate."""

    digest: str
    created_at_us: int
    snapshot: str
    dataset_hash: str


class Operations:
    """Rules and store together; any thread may use it.

    `settings` is called only where a rule needs it, so that the kill switch works beside a broken trimtab.toml too.
    """

    def __init__(
        self,
        control: Control,
        settings: Callable[[], Settings],
        candidates: Path,
        clock: Clock,
        comparisons: Callable[[str, str | None], Comparisons] = no_comparisons,
    ) -> None:
        self.control, self._settings, self._clock = control, settings, clock
        self._room = EvidenceRoom(control, settings, candidates, comparisons)

    # Candidates: what there is, and what the gate says of it.

    def register(self, digest: str, actor: str = "trainer") -> dict[str, Any]:
        """Take the finished candidate directory of this digest into the list and let the gate decide; again is fine.

        Raises Failed when its files are not what its digest promises.
        """
        report = self._room.verified(digest)
        try:
            head = msgspec.convert(report.content, _Head)
        except msgspec.ValidationError as error:
            raise Failed(f"{digest[:12]}/report.json is not a candidate's report: {error}") from None
        if head.digest != digest:
            raise Failed(f"{digest[:12]}/report.json speaks of another candidate ({head.digest[:12]})")
        now = self._clock.now_us()
        with self.control.change() as tx:
            if not tx.knows(digest):
                fresh = Candidate(
                    digest, head.snapshot, head.dataset_hash, report.sha256, head.created_at_us, now, "trained", "gate"
                )
                tx.add_candidate(fresh)
                tx.append(Entry(now, actor, "register", digest, None, "trained", f"trained on {head.snapshot}"))
                seal = self._room.reseal(tx, fresh, report, now)
                if seal.decision == "pass" and "rollout" not in self._settings().approve.before:
                    self._approve_by_rule(tx, fresh, seal, now)
            return _view(tx, tx.candidate(digest))

    def discover(self) -> list[str]:
        """Register every finished candidate directory that is not known yet; returns a sentence for each that can't be."""
        problems = []
        with self.control.read() as tx:
            known = {candidate.digest for candidate in tx.candidates()}
        for path in sorted(self._room.folder.glob(f"*/{MARKER}")):
            if path.parent.name not in known:
                try:
                    self.register(path.parent.name)
                except Failed as error:
                    problems.append(str(error))
        return problems

    def candidates(self) -> list[dict[str, Any]]:
        """Every candidate, newest first, as `trimtab candidates --json` prints it; outdated evidence is sealed anew."""
        self._room.refresh(self._clock.now_us())
        with self.control.read() as tx:
            return [_view(tx, candidate) for candidate in tx.candidates()]

    def show(self, prefix: str) -> dict[str, Any]:
        """One candidate with its report, approvals and history. Raises UnknownCandidate."""
        with self.control.read() as tx:
            digest = tx.candidate(prefix).digest
        self._room.refresh(self._clock.now_us(), digest)
        with self.control.read() as tx:
            candidate = tx.candidate(digest)
            approvals = [
                {
                    "at": iso(a.at_us),
                    "actor": a.actor,
                    "reason": a.reason,
                    "override_hold": a.override_hold,
                    "seal": a.seal,
                }
                for a in tx.approvals(digest)
            ]
            view = _view(tx, candidate)
            happened = [described(entry) for entry in tx.history_of(digest)]
        report = self._room.report(digest)
        return view | {
            "approvals": approvals,
            "history": happened,
            "report": finite(report.content) if report else None,
        }

    # Decisions about one candidate.

    def approve(
        self, prefix: str, *, evidence: str, reason: str, actor: str, override_hold: bool = False
    ) -> dict[str, Any]:
        """Start the rollout of a candidate, on the evidence of the seal that is named. Raises Refused, else Failed."""
        reason = one_line(reason)
        settings = self._settings()
        with self.control.read() as tx:
            digest = tx.candidate(prefix).digest
        report = self._room.verified(digest)  # before the transaction: hashing weights takes its time
        now = self._clock.now_us()
        with self.control.change() as tx:
            candidate = tx.candidate(digest)
            if candidate.rejected_by is not None:
                raise Refused(f"{digest[:12]} was rejected by {candidate.rejected_by}: train another candidate")
            seal = tx.current_seal(digest)
            assert seal is not None  # since it was registered
            approval.check(
                evidence,
                seal.evidence,
                self._room.evidence(tx, candidate, report, now),
                reason=reason,
                override_hold=override_hold,
                expires_us=settings.approve.expires_s * 1_000_000,
            )
            self._start(tx, candidate, seal, actor, reason, override_hold, now)
            return _view(tx, tx.candidate(digest))

    def reject(self, prefix: str, *, reason: str, actor: str) -> dict[str, Any]:
        """Say no for good. Refused once its rollout is under way, or over."""
        reason, now = one_line(reason), self._clock.now_us()
        if not reason:
            raise Refused("a rejection needs a reason: add --reason with a sentence for whoever trains next")
        with self.control.change() as tx:
            candidate = tx.candidate(prefix)
            if candidate.state not in ("held", "passed", "rejected", "rolled_back"):
                raise Refused(
                    f"{candidate.digest[:12]} is {candidate.state}: `trimtab rollback` takes it out of service"
                )
            if candidate.rejected_by is None:
                tx.move(candidate.digest, "rejected", None, rejected_by=actor)
                tx.append(Entry(now, actor, "reject", candidate.digest, candidate.state, "rejected", reason))
            return _view(tx, tx.candidate(candidate.digest))

    def answer_training(
        self, name: str, answer: Literal["approved", "rejected"], *, reason: str, actor: str
    ) -> TrainingRequest:
        """Say yes or no to `training-7`, where `approve.before` names "train"."""
        reason = one_line(reason)
        if not reason:
            raise Refused("an answer needs a reason: add --reason with a sentence for whoever asks later")
        return self.control.trainings.answer(name, answer, actor, reason, self._clock.now_us())

    # The rollout.

    def promote(self, *, actor: str, reason: str = "") -> dict[str, Any]:
        """To the next share, or to full. Refused when the evidence that was approved is no longer the present one."""
        settings = self._settings()
        command = rollout.Promote(settings.rollout.shares, settings.approve.expires_s * 1_000_000)
        with self.control.read() as tx:
            under_way = tx.serving().rollout
        report = self._room.verified(under_way.candidate) if under_way is not None else None
        now = self._clock.now_us()
        with self.control.change() as tx:
            serving = tx.serving()
            if serving.rollout is not None and serving.rollout.state == "approved" and not serving.halted:
                if report is None or under_way is None or under_way.candidate != serving.rollout.candidate:
                    raise Refused("the rollout has just changed: look at `trimtab candidates`, then promote again")
                self._check_still_approved(tx, serving.rollout.candidate, report, now)
            return self._apply(tx, serving, command, "promote", actor, reason, now)

    def pause(self, *, actor: str, reason: str = "") -> dict[str, Any]:
        """Keep the canary at its share until `resume`."""
        return self._command(rollout.Pause(), "pause", actor, reason)

    def resume(self, *, actor: str, reason: str = "") -> dict[str, Any]:
        """Lift the halt, else the pause."""
        return self._command(rollout.Resume(), "resume", actor, reason)

    def rollback(self, *, actor: str, reason: str = "") -> dict[str, Any]:
        """End the rollout under way; where there is none, go back to the earlier incumbent."""
        return self._command(rollout.Rollback(), "rollback", actor, reason)

    def halt(self, *, actor: str, reason: str = "") -> dict[str, Any]:
        """The kill switch: the bare base serves everything until `resume`. Always possible."""
        return self._command(rollout.Halt(), "halt", actor, reason)

    def serving(self) -> dict[str, Any]:
        """What is served now."""
        with self.control.read() as tx:
            return served(tx.serving())

    # Below here: how it is done.

    def _command(self, command: Command, action: str, actor: str, reason: str) -> dict[str, Any]:
        with self.control.change() as tx:
            return self._apply(tx, tx.serving(), command, action, actor, reason, self._clock.now_us())

    def _apply(
        self, tx: Transaction, serving: Serving, command: Command, action: str, actor: str, reason: str, now: int
    ) -> dict[str, Any]:
        after, moves = rollout.transition(serving, command, now)
        tx.save_serving(serving, after, now)
        for moved in moves:
            self._store(tx, moved, action, actor, one_line(reason), now)
        return served(after)

    def _store(self, tx: Transaction, moved: Moved, action: str, actor: str, reason: str, now: int) -> None:
        before = moved.before
        if moved.candidate is not None:
            assert moved.after != "serving"
            before = before or tx.candidate(moved.candidate).state
            tx.move(moved.candidate, moved.after, STAGE_OF.get(moved.after))
        share = f" at {moved.share * 100:g}%" if moved.after in ("canary", "paused") else ""
        tx.append(Entry(now, actor, action, moved.candidate, before, moved.after + share, reason))

    def _start(
        self, tx: Transaction, candidate: Candidate, seal: Seal, actor: str, reason: str, override_hold: bool, now: int
    ) -> None:
        serving = tx.serving()
        command = rollout.Approve(candidate.digest, f"r-{secrets.token_hex(8)}")
        self._apply(tx, serving, command, "approve", actor, reason, now)
        under_way = tx.serving().rollout
        assert under_way is not None
        if serving.rollout is not None:  # renewed: nothing moved, but somebody said yes again
            tx.append(Entry(now, actor, "approve", candidate.digest, "approved", "approved", reason))
        tx.add_approval(Approval(under_way.id, now, candidate.digest, seal.seal, actor, reason, override_hold))

    def _approve_by_rule(self, tx: Transaction, candidate: Candidate, seal: Seal, now: int) -> None:
        """Nobody wants to be asked: a candidate that passed is approved, where there is room for a rollout."""
        serving = tx.serving()
        if serving.rollout is None and not serving.halted:
            self._start(tx, candidate, seal, "rule", "approve.before does not name rollout", False, now)

    def _check_still_approved(self, tx: Transaction, digest: str, report: Report, now: int) -> None:
        sealed = tx.seal(tx.approvals(digest)[0].seal)
        if not approval.same(sealed.evidence, self._room.evidence(tx, tx.candidate(digest), report, now)):
            raise Refused(
                f"the evidence for {digest[:12]} is no longer what was approved: "
                f"look again with `trimtab show {digest[:12]}` and approve it anew"
            )


def one_line(text: str) -> str:
    """A reason as it is stored: without control characters, at most 2,000 characters."""
    return " ".join(plain(text).replace("\0", " ").split())[:MAX_REASON]


def _view(tx: Transaction, candidate: Candidate) -> dict[str, Any]:
    return described_candidate(candidate, tx.current_seal(candidate.digest), tx.serving())
