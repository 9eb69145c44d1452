"""Candidates, what is served, and history as JSON documents: what `--json` prints and the admin API answers."""

from __future__ import annotations

import math
from typing import Any

from deploy.control.history import Entry
from deploy.control.store import Candidate, Seal
from deploy.rules.rollout import Serving
from deploy.text import iso


def described_candidate(candidate: Candidate, seal: Seal | None, serving: Serving) -> dict[str, Any]:
    """A candidate as `trimtab candidates --json` lists it; `evidence` is the seal to approve."""
    live = candidate.state in ("canary", "paused") or candidate.digest == serving.incumbent
    return {
        "digest": candidate.digest,
        "created_at": iso(candidate.created_at_us),
        "snapshot": candidate.snapshot,
        "state": "halted" if serving.halted and live else candidate.state,
        "stage": candidate.stage,
        "share": serving.share(candidate.digest),
        "gate": {"decision": seal.decision, "reasons": list(seal.reasons)} if seal else None,
        "evidence": seal.seal if seal else None,
    }


def served(serving: Serving) -> dict[str, Any]:
    """What is served, as JSON values."""
    under_way = serving.rollout
    return {
        "incumbent": serving.incumbent,
        "earlier_incumbent": serving.incumbents[-2] if len(serving.incumbents) > 1 else None,
        "halted": serving.halted,
        "rollout": under_way
        and {
            "id": under_way.id,
            "candidate": under_way.candidate,
            "state": under_way.state,
            "share": under_way.share,
            "approved_at": iso(under_way.approved_at_us),
        },
    }


def described(entry: Entry) -> dict[str, Any]:
    """A history entry as JSON values."""
    return {
        "at": iso(entry.at_us),
        "actor": entry.actor,
        "action": entry.action,
        "subject": entry.subject,
        "from": entry.before,
        "to": entry.after,
        "reason": entry.reason,
    }


def finite(value: Any) -> Any:
    """The value with null for what JSON can't say: numbers that are infinite or not a number."""
    if isinstance(value, dict):
        return {key: finite(part) for key, part in value.items()}
    if isinstance(value, list):
        return [finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
