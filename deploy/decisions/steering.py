"""What the controller does by itself with a rollout: harm is rolled back, a signal pauses, evidence goes on where it was told to.

Each step names the revision that was looked at: of two controllers, or one that was killed and comes again, one acts, and the
other is refused. It needs the control database alone.
"""

from __future__ import annotations

from typing import Any

from deploy.control.records import RolloutLook
from deploy.decisions.operations import Operations
from deploy.decisions.standing import because
from deploy.errors import Refused
from deploy.rules.rollout import Serving

ACTOR = "controller"


def steer(rules: Operations, look: RolloutLook) -> str | None:
    """Do what the look says, if it is the controller's to do; the name of the step that was taken, None where none was.

    Raises Failed where the step could not be taken.
    """
    expect, reason = look.document["revision"], "; ".join(look.document["reasons"])
    step = _step(rules, look)
    if step is None:
        return None
    try:
        getattr(rules, step)(actor=ACTOR, reason=reason, expect=expect)
    except Refused:
        return None  # somebody was quicker, or a rule says no: the next look sees what is so then
    return step


def _step(rules: Operations, look: RolloutLook) -> str | None:
    action, advance = look.document["action"], look.document["advance"]
    with rules.control.read() as tx:
        serving = tx.serving()
        ours = _paused_by(serving, because(tx, serving)) == ACTOR
    under_way = serving.rollout
    if under_way is None or under_way.id != look.rollout_id or serving.halted:
        return None
    if action == "rollback":
        return "rollback"
    if action == "pause":
        return "pause" if under_way.state == "canary" else None
    if ours and action != "hold":
        return "resume"
    wanted = action in ("advance", "promote") and advance == "by evidence" and under_way.state in ("approved", "canary")
    return "promote" if wanted else None


def _paused_by(serving: Serving, because: list[dict[str, Any]]) -> str | None:
    """Who paused the rollout; None where it is not paused, or nobody remembers."""
    paused = serving.rollout is not None and serving.rollout.state == "paused"
    return str(because[0]["actor"]) if paused and because else None
