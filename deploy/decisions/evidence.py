"""The evidence for each candidate: its report, what the gate makes of it, and the seal that an approval names.

Evidence is computed from what is true now (report, gate settings, incumbent, comparisons) and sealed anew when that has
changed or the last seal has expired; looking at a candidate is what does so.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploy.control.history import Entry
from deploy.control.store import Candidate, Control, Seal, Transaction
from deploy.errors import Failed
from deploy.rules import approval, gate
from deploy.rules.gate import Comparisons
from deploy.rules.rollout import STAGE_OF, CandidateState
from deploy.settings import Settings
from models.adapters import AdapterInvalid, verify

STATE_OF_DECISION: dict[str, CandidateState] = {"pass": "passed", "hold": "held", "reject": "rejected"}
SEALED: tuple[CandidateState, ...] = ("trained", "held", "passed", "rejected", "approved", "rolled_back")
"""States in which the evidence still matters, so that it is kept up to date."""


@dataclass(frozen=True)
class Report:
    """A candidate's report.json: as it is, and what it hashes to."""

    content: dict[str, Any]
    sha256: str


def no_comparisons(_candidate: str, _incumbent: str | None) -> Comparisons:
    """Where nobody compares blindly yet."""
    return Comparisons()


class EvidenceRoom:
    """Gathers and seals evidence. `settings` is called only where a rule needs it."""

    def __init__(
        self,
        control: Control,
        settings: Callable[[], Settings],
        candidates: Path,
        comparisons: Callable[[str, str | None], Comparisons] = no_comparisons,
    ) -> None:
        self.control, self._settings, self.folder = control, settings, candidates
        self._comparisons = comparisons

    def refresh(self, now: int, only: str | None = None) -> None:
        """Seal the evidence anew where it has changed or expired; nothing is written where it has not."""
        with self.control.read() as tx:
            reports = {
                candidate.digest: report
                for candidate in tx.candidates()
                if candidate.state in SEALED and only in (None, candidate.digest)
                if (report := self.report(candidate.digest)) is not None
            }
            old = [digest for digest in reports if self._outdated(tx, tx.candidate(digest), reports[digest], now)]
        if old:
            with self.control.change() as tx:
                for digest in old:
                    self.reseal(tx, tx.candidate(digest), reports[digest], now)

    def _outdated(self, tx: Transaction, candidate: Candidate, report: Report, now: int) -> bool:
        seal = tx.current_seal(candidate.digest)
        if seal is None or now >= seal.sealed_at_us + self._settings().approve.expires_s * 1_000_000:
            return True
        return not approval.same(seal.evidence, self.evidence(tx, candidate, report, now))

    def reseal(self, tx: Transaction, candidate: Candidate, report: Report, now: int) -> Seal:
        """Seal what is true now; a candidate whose fate is still open takes the state of the gate's decision."""
        latest = tx.current_seal(candidate.digest)
        now = (
            max(now, latest.sealed_at_us + 1) if latest else now
        )  # two seals never share their time, so one is current
        evidence = self.evidence(tx, candidate, report, now)
        seal = Seal(evidence.seal, candidate.digest, evidence.decision, evidence.reasons, evidence.document(), now)
        tx.add_seal(seal)
        state = STATE_OF_DECISION[evidence.decision]
        open_question = candidate.state in ("trained", "held", "passed", "rejected") and candidate.rejected_by is None
        if open_question and state != candidate.state:
            tx.move(candidate.digest, state, STAGE_OF.get(state, "gate"))
            tx.append(
                Entry(now, "gate", "decide", candidate.digest, candidate.state, state, "; ".join(evidence.reasons))
            )
        return seal

    def evidence(self, tx: Transaction, candidate: Candidate, report: Report, now: int) -> approval.Evidence:
        """What would be sealed now."""
        if report.sha256 != candidate.report_sha256:
            decision: gate.Decision = gate.Reject(("report.json was changed after the candidate was registered",))
        else:
            decision = self._decide(report, candidate.digest, tx.serving().incumbent)
        return approval.Evidence(
            candidate=candidate.digest,
            dataset_hash=candidate.dataset_hash,
            report_sha256=report.sha256,
            decision=decision.name,
            reasons=decision.reasons,
            gate=self._settings().gate.model_dump(mode="json"),
            incumbent=tx.serving().incumbent,
            rollbacks=tx.rollbacks(candidate.digest),
            sealed_at_us=now,
        )

    def _decide(self, report: Report, digest: str, incumbent: str | None) -> gate.Decision:
        return gate.decide(report.content, self._settings().gate, self._comparisons(digest, incumbent), incumbent)

    def verified(self, digest: str) -> Report:
        """The report, once every file is what the digest promises (weights are hashed anew); else Failed."""
        try:
            verify(self.folder / digest, digest)
        except AdapterInvalid as error:
            raise Failed(f"{digest[:12]} can't be used: {error}") from None
        report = self.report(digest)
        if report is None:
            raise Failed(f"{digest[:12]} can't be used: its report.json is missing or is not JSON")
        return report

    def report(self, digest: str) -> Report | None:
        """None where the directory is gone or the file unreadable: what is known of the candidate still stands."""
        try:
            raw = (self.folder / digest / "report.json").read_bytes()
            content = json.loads(raw)
        except (OSError, ValueError, RecursionError):
            return None
        return Report(content, hashlib.sha256(raw).hexdigest()) if isinstance(content, dict) else None
