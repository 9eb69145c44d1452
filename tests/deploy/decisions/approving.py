"""What the tests of decisions share: approving, and going all the way."""

from __future__ import annotations

from typing import Any

from deploy.decisions.operations import Operations

HOLD = {"override_hold": True}


def approve(rules: Operations, digest: str, **changes: Any) -> dict[str, Any]:
    arguments = {"evidence": rules.show(digest)["evidence"], "reason": "reads well", "actor": "ada"} | changes
    return rules.approve(digest, **arguments)


def to_full(rules: Operations, digest: str) -> None:
    approve(rules, digest, **HOLD)
    while rules.serving()["rollout"]:
        rules.promote(actor="ada")
