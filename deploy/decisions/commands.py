"""The rollout's commands: one table, from which the command line and the admin API both are made."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from deploy.decisions.operations import Operations


@dataclass(frozen=True)
class RolloutCommand:
    """One command. `run(rules, actor=…, reason=…, expect=…, **flags)` answers what is served then; raises Refused."""

    run: Callable[..., dict[str, Any]]
    help: str
    example: str
    """Words after `trimtab`."""
    flags: Mapping[str, str] = field(default_factory=dict)
    """What may be said besides a reason and the state that is meant, with its help."""


ROLLOUT_COMMANDS: Mapping[str, RolloutCommand] = {
    "pause": RolloutCommand(
        Operations.pause,
        "Keep the canary at its share: no promotion until `trimtab resume`.",
        'pause --reason "waiting for the weekend\'s ratings"',
    ),
    "resume": RolloutCommand(
        Operations.resume,
        "Lift the halt; where there is none, the pause.",
        'resume --reason "it was the load balancer"',
    ),
    "promote": RolloutCommand(
        Operations.promote,
        "Move the approved candidate to its next share of users; from the last one it is the incumbent. Each step asks "
        "the gate again, by the rules that were approved.",
        "promote",
        {
            "override_hold": "Go on although the gate would no longer pass it, or this share's evidence is still to come; needs a reason."
        },
    ),
    "rollback": RolloutCommand(
        Operations.rollback,
        "Take the candidate under rollout out of service.",
        'rollback --reason "answers in the wrong language"',
        {"incumbent": "Where no rollout is under way: take down the incumbent, and go back to the one before."},
    ),
    "halt": RolloutCommand(
        Operations.halt,
        "The kill switch: the bare base model serves everything until `trimtab resume`. Always possible.",
        'halt --reason "something is badly wrong"',
    ),
}
"""By name; each is recorded in the history under it."""

EXPECT_HELP = "Only if this is still the state that `trimtab status` showed (its revision); else it is refused."
