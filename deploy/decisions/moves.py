"""Carrying out what was decided: the rollout's moves, stored together with the history that tells of them."""

from __future__ import annotations

import secrets
from typing import Any

from deploy.control.history import Entry
from deploy.control.records import Approval, Candidate, Seal
from deploy.control.transaction import Transaction
from deploy.rules import rollout
from deploy.rules.rollout import STAGE_OF, Command, Moved, Rollout, Serving


def apply(
    tx: Transaction, serving: Serving, command: Command, action: str, actor: str, reason: str, now: int
) -> Serving:
    """Store what the command makes of `serving`; raises Refused."""
    after, moves = rollout.transition(serving, command, now)
    tx.save_serving(serving, after, now)
    for moved in moves:
        _store(tx, moved, (after.rollout or serving.rollout), action, actor, reason, now)
    return after


def start(
    tx: Transaction, candidate: Candidate, seal: Seal, actor: str, reason: str, override_hold: bool, now: int
) -> None:
    """Start the candidate's rollout on this seal, or renew its approval."""
    serving = tx.serving()
    command = rollout.Approve(candidate.digest, f"r-{secrets.token_hex(8)}", secrets.token_hex(32))
    apply(tx, serving, command, "approve", actor, reason, now)
    under_way = tx.serving().rollout
    assert under_way is not None
    data: dict[str, Any] = {"rollout": under_way.id, "seal": seal.seal, "override_hold": override_hold}
    if serving.rollout is not None:  # renewed: nothing moved, but somebody said yes again
        data["share"] = under_way.share
        tx.append(Entry(now, actor, "approve", candidate.digest, candidate.state, candidate.state, reason, data))
    tx.add_approval(Approval(under_way.id, now, candidate.digest, seal.seal, actor, reason, override_hold))


def _store(
    tx: Transaction, moved: Moved, under_way: Rollout | None, action: str, actor: str, reason: str, now: int
) -> None:
    before, data = moved.before, dict[str, Any]()
    if moved.candidate is not None:
        assert moved.after != "serving"
        before = before or tx.candidate(moved.candidate).state
        tx.move(moved.candidate, moved.after, STAGE_OF.get(moved.after))
        data["share"] = moved.share
        if under_way is not None and under_way.candidate == moved.candidate:
            data["rollout"] = under_way.id
    tx.append(Entry(now, actor, action, moved.candidate, before, moved.after, reason, data or None))
