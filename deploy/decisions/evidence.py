"""The evidence for each candidate: its report, what the gate makes of it, and the seal that an approval names.

Looking seals nothing; `show`, `approve` and the controller do. A seal is made anew where anything but the time is different,
or its own time is over.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploy.control.history import Entry
from deploy.control.records import Candidate, Seal
from deploy.control.transaction import Transaction
from deploy.errors import Failed
from deploy.rules import approval, gate
from deploy.rules.approval import VERSION, Evidence, Policy
from deploy.rules.elapsed import elapsed_s
from deploy.rules.names import short
from deploy.rules.reasons import Reason, as_json, codes, sentences
from deploy.rules.rollout import STAGE_OF, CandidateState
from deploy.rules.weighing import Comparisons
from deploy.settings import Settings
from models.adapters import AdapterInvalid, read_adapter
from models.bases import Base

STATE_OF_OUTCOME: dict[str, CandidateState] = {"pass": "passed", "hold": "held", "reject": "rejected"}
OPEN: tuple[CandidateState, ...] = ("trained", "held", "passed", "rejected")
"""States in which the gate's outcome is the candidate's state (where no person rejected it)."""


@dataclass(frozen=True)
class Report:
    """A candidate's report.json: as it is, and what it hashes to."""

    content: dict[str, Any]
    sha256: str


Weighed = Callable[[Transaction, Candidate, str | None, int, int], Comparisons]
"""What a candidate's comparisons with an incumbent come to, at its how-manieth attempt, at this moment: `Comparing.weighed`."""


Served = Callable[[], Base | None]
"""The base that is served; None where it is not on this machine."""


class EvidenceRoom:
    """Gathers evidence in `candidates`, and seals it."""

    def __init__(self, candidates: Path, weighed: Weighed, served: Served = lambda: None) -> None:
        self.folder, self._weighed, self._served = candidates, weighed, served

    def evidence(self, tx: Transaction, candidate: Candidate, report: Report, policy: Policy, now_us: int) -> Evidence:
        """What is true now, by this policy."""
        incumbent = tx.serving().incumbent
        decided = self._decide(tx, candidate, report, policy, incumbent, now_us)
        return Evidence(
            candidate=candidate.digest,
            dataset_hash=candidate.dataset_hash,
            report_sha256=report.sha256,
            incumbent=incumbent,
            policy=policy,
            outcome=decided.name,
            reasons=decided.reasons,
            sealed_at_us=now_us,
        )

    def compared(self, tx: Transaction, candidate: Candidate, now_us: int) -> Comparisons:
        """What its comparisons with what serves now come to; each rollback makes the next attempt harder."""
        return self._weighed(tx, candidate, tx.serving().incumbent, tx.rollbacks(candidate.digest) + 1, now_us)

    def seal(self, tx: Transaction, candidate: Candidate, report: Report, policy: Policy, now_us: int) -> Seal:
        """The seal of what is true now: the latest, where it says the same and its time is not over; else a new one."""
        evidence = self.evidence(tx, candidate, report, policy, now_us)
        latest = tx.current_seal(candidate)
        if latest is not None and not _outdated(latest, evidence, now_us):
            return latest
        reasons = as_json(evidence.reasons)
        seal = Seal(
            evidence.seal, candidate.digest, evidence.outcome, reasons, evidence.document(), now_us, version=VERSION
        )
        tx.add_seal(seal)
        _move(tx, candidate, evidence, now_us)
        return seal

    def verified(self, digest: str) -> Report:
        """The report, once every file is what the digest promises (weights are hashed anew), for the base that is served; else Failed."""
        try:
            adapter, base = read_adapter(self.folder / digest, digest), self._served()
            if base is not None:
                adapter.check_fits(base)
        except AdapterInvalid as error:
            raise Failed(f"{short(digest)} can't be used: {error}") from None
        report = self.report(digest)
        if report is None:
            raise Failed(f"{short(digest)} can't be used: its report.json is missing or is not JSON")
        return report

    def report(self, digest: str) -> Report | None:
        """None where the directory is gone or the file unreadable: what is known of the candidate still stands."""
        try:
            raw = (self.folder / digest / "report.json").read_bytes()
            content = json.loads(raw, parse_int=_number)
            if not isinstance(content, dict):
                return None
            decides = {name: value for name, value in content.items() if name != "samples"}
            json.dumps(decides, ensure_ascii=False).encode()  # no database takes half a character
        except (OSError, ValueError, RecursionError):
            return None
        return Report(content, hashlib.sha256(raw).hexdigest())

    def _decide(
        self, tx: Transaction, candidate: Candidate, report: Report, policy: Policy, incumbent: str | None, now_us: int
    ) -> gate.Decision:
        if report.sha256 != candidate.report_sha256:
            return gate.Reject((Reason("report_changed"),))
        comparisons, rollbacks = self.compared(tx, candidate, now_us), tx.rollbacks(candidate.digest)
        return gate.decide(report.content, policy.gate, comparisons, incumbent, rollbacks)


def _number(digits: str) -> float:
    """What no float can hold is infinite, as the gate calls it: nobody who shows a report has to expect it."""
    return int(digits) if len(digits) < 300 else float(digits)


def policy_of(settings: Settings) -> Policy:
    """By which rules candidates are judged and rolled out now."""
    return Policy(settings.gate, settings.rollout, settings.approve.expires_s)


def _outdated(latest: Seal, evidence: Evidence, now_us: int) -> bool:
    sealed = approval.evidence_of(latest.evidence)
    return elapsed_s(latest.sealed_at_us, now_us) >= sealed.policy.expires_s or not approval.same(sealed, evidence)


def _move(tx: Transaction, candidate: Candidate, evidence: Evidence, now_us: int) -> None:
    """A candidate whose fate is still open takes the state of the gate's outcome."""
    state = STATE_OF_OUTCOME[evidence.outcome]
    if candidate.state in OPEN and candidate.rejected_by is None and state != candidate.state:
        tx.move(candidate.digest, state, STAGE_OF.get(state, "gate"))
        why = "; ".join(sentences(evidence.reasons))
        data = {"seal": evidence.seal, "codes": sorted(codes(evidence.reasons))}
        tx.append(Entry(now_us, "gate", "decide", candidate.digest, candidate.state, state, why, data))
