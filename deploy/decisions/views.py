"""Candidates, what is served, and history as JSON documents: what `--json` prints and the admin API answers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from deploy.control.history import Entry
from deploy.control.records import (
    Approval,
    Candidate,
    Objection,
    Period,
    RolloutLook,
    Seal,
    ShadowEnded,
    ShadowTally,
)
from deploy.rules.assignment import Shadow
from deploy.rules.names import percent
from deploy.rules.next_step import InShadow, Lacks, Look
from deploy.rules.reasons import codes, from_json, sentences
from deploy.rules.rollout import CandidateState, Serving
from deploy.rules.shadow import LACKING, comparisons_alone
from deploy.text import iso


def described_candidate(candidate: Candidate, seal: Seal | None, serving: Serving, now_us: int) -> dict[str, Any]:
    """A candidate as `trimtab candidates --json` lists it; `evidence` is its last seal, which an approval may name."""
    return {
        "digest": candidate.digest,
        "created_at": iso(candidate.created_at_us),
        "snapshot": candidate.snapshot,
        "state": shown_state(candidate, serving),
        "stage": candidate.stage,
        "share": serving.share(candidate.digest),
        "gate": _gate(seal) if seal else None,
        "evidence": seal.seal if seal else None,
        "evidence_age_s": max(0, now_us - seal.sealed_at_us) // 1_000_000 if seal else None,
    }


def shown_state(candidate: Candidate, serving: Serving) -> CandidateState:
    """`halted` for what would be serving, while everything is halted."""
    live = candidate.state in ("canary", "paused") or candidate.digest == serving.incumbent
    return "halted" if serving.halted and live else candidate.state


def look_at(candidate: Candidate, seal: Seal | None, shadow: InShadow = "off", objected: bool = False) -> Look:
    """The candidate for `next_step`; `shadow` says whether live turns are copied to it, or may be."""
    if seal is None:
        return Look(candidate.digest, candidate.state, objected=objected)
    lacks = _lacks(seal, shadow)
    return Look(candidate.digest, candidate.state, seal.decision, seal.seal, lacks, objected)


def _lacks(seal: Seal, shadow: InShadow) -> Lacks | None:
    reasons = from_json(list(seal.reasons))
    if seal.decision != "hold" or not comparisons_alone(codes(reasons)):
        return None
    figures = next(reason.figures for reason in reasons if reason.code in LACKING)
    people, second, judge = (figures.get(f"wait_{whom}", 0) for whom in ("people", "second", "judge"))
    return Lacks(people, second, judge, shadow)


def described_look(look: RolloutLook | None) -> dict[str, Any] | None:
    """What the controller saw of a rollout, as JSON values."""
    return {"at": iso(look.at_us), **look.document} if look is not None else None


def mismatched(look: Mapping[str, Any]) -> bool:
    """Whether it holds because users did not come to the arms as they were drawn."""
    return look["action"] == "hold" and any(
        row["log_evidence"] >= row["log_evidence_needed"]
        for row in look.get("sample_ratio", ())  # one of before had none
    )


def too_early(look: RolloutLook, serving: Serving) -> str | None:
    """Why the controller has not seen that the evidence and the least time of this share are there; None where it has."""
    if look.document["revision"] != serving.revision:
        return "the controller has not looked at this share yet"
    return None if look.document["action"] in ("advance", "promote") else "; ".join(look.document["reasons"])


def served(serving: Serving, look: RolloutLook | None) -> dict[str, Any]:
    """What is served, as JSON values; `revision` names this very state, `look` is what the controller saw of its rollout."""
    under_way = serving.rollout
    return {
        "incumbent": serving.incumbent,
        "earlier_incumbent": serving.incumbents[-2] if len(serving.incumbents) > 1 else None,
        "halted": serving.halted,
        "revision": serving.revision,
        "rollout": under_way
        and {
            "id": under_way.id,
            "candidate": under_way.candidate,
            "state": under_way.state,
            "share": under_way.share,
            "approved_at": iso(under_way.approved_at_us),
            "look": described_look(look),
        },
    }


def described_approval(approval: Approval) -> dict[str, Any]:
    """A person's yes, as JSON values."""
    return {
        "at": iso(approval.at_us),
        "actor": approval.actor,
        "reason": approval.reason,
        "override_hold": approval.override_hold,
        "seal": approval.seal,
    }


def described_objection(objection: Objection) -> dict[str, Any]:
    """A person's no, as JSON values."""
    return {
        "candidate": objection.candidate,
        "at": iso(objection.at_us),
        "actor": objection.actor,
        "reason": objection.reason,
    }


def described_shadow(under_way: Shadow | None, ended: ShadowEnded | None, tally: ShadowTally) -> dict[str, Any] | None:
    """A candidate's shadow, as JSON values: the one under way, else the last one; None where it had none."""
    one = under_way or ended
    if one is None:
        return None
    over = None if under_way is not None or ended is None else ended
    return {
        "candidate": one.candidate,
        "since": iso(one.started_at_us),
        "earliest_end": iso(under_way.started_at_us + under_way.min_s * 1_000_000) if under_way is not None else None,
        "latest_end": iso(under_way.started_at_us + under_way.max_s * 1_000_000) if under_way is not None else None,
        "ended_at": iso(over.ended_at_us) if over is not None else None,
        "outcome": over.outcome if over is not None else None,
        "why": over.why if over is not None else None,
        "pairs": tally.pairs,
        "last_pair_at": iso(tally.last_at_us) if tally.last_at_us is not None else None,
        "failed": dict(tally.failures),
    }


def described(entry: Entry) -> dict[str, Any]:
    """A history entry as JSON values; `data` is what the words say, for programs."""
    return {
        "number": entry.number,
        "at": iso(entry.at_us),
        "actor": entry.actor,
        "action": entry.action,
        "subject": entry.subject,
        "from": entry.before,
        "to": entry.after,
        "reason": entry.reason,
        "data": entry.data,
    }


def became(event: Mapping[str, Any]) -> str:
    """What an entry (as `described`) says that something was and became, for a person: `approved → canary at 5%`."""
    share = (event["data"] or {}).get("share")
    at = f" at {percent(share)}" if share is not None and event["to"] in ("canary", "paused") else ""
    return f"{event['from'] or 'new'} → {event['to'] or 'nothing'}{at}"


def described_periods(periods: Sequence[Period]) -> list[dict[str, Any]]:
    """Who served what from when to when, as JSON values."""
    return [
        {
            "from": iso(period.started_at_us),
            "to": iso(period.ended_at_us) if period.ended_at_us is not None else None,
            "incumbent": period.incumbent,
            "candidate": period.candidate,
            "rollout": period.rollout_id,
            "share": period.share,
            "halted": period.halted,
        }
        for period in periods
    ]


def finite(value: Any) -> Any:
    """The value with null for what JSON can't say: numbers that are infinite or not a number."""
    if isinstance(value, dict):
        return {key: finite(part) for key, part in value.items()}
    if isinstance(value, list):
        return [finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _gate(seal: Seal) -> dict[str, Any]:
    reasons = from_json(list(seal.reasons))
    return {"decision": seal.decision, "reasons": sentences(reasons), "codes": sorted(codes(reasons))}
