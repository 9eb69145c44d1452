"""What the tests of decisions share: approving, and going all the way."""

from __future__ import annotations

from typing import Any

from deploy.control.store import open_control
from deploy.decisions.operations import Operations
from deploy.settings import Settings
from deploy.state import State
from tests.deploy.candidates import make_candidate
from tests.fakes import CLOCK

HOLD = {"override_hold": True}


def approve(rules: Operations, digest: str, **changes: Any) -> dict[str, Any]:
    arguments = {"evidence": rules.show(digest)["evidence"], "reason": "reads well", "actor": "ada"} | changes
    return rules.approve(digest, **arguments)


def to_full(rules: Operations, digest: str) -> None:
    approve(rules, digest, **HOLD)
    while rules.serving()["rollout"]:
        rules.promote(actor="ada")


def serves(state: State) -> str:
    """A candidate that the rollout says is served to everybody."""
    digest = make_candidate(state.candidates)
    control = open_control(state.control)
    rules = Operations(control, Settings, state.candidates, CLOCK)
    rules.register(digest)
    to_full(rules, digest)
    control.close()
    return digest
