"""An approval is good for the evidence that was seen, and for nothing else."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from deploy.errors import Refused
from deploy.rules.approval import Evidence, check, matches

SEEN = Evidence("c" * 64, "sha256:1", "e" * 64, "pass", ("won",), {"min_comparisons": 200}, None, 0, 1_000)
HOUR_US = 3_600_000_000


def approve(now: Evidence = SEEN, named: str = SEEN.seal, sealed: Evidence = SEEN, **changes: Any) -> None:
    arguments: dict[str, Any] = {"reason": "reads well", "override_hold": False, "expires_us": HOUR_US} | changes
    check(named, sealed.document(), now, **arguments)


def test_the_present_seal_or_its_first_characters_is_enough() -> None:
    approve()
    approve(named=SEEN.seal[:12])
    approve(now=replace(SEEN, sealed_at_us=1_000 + HOUR_US - 1))


@pytest.mark.parametrize("named", ["", SEEN.seal[:11], "0" * 64, SEEN.seal + "0"])
def test_anything_else_is_refused(named: str) -> None:
    assert not matches(named, SEEN.seal)
    with pytest.raises(Refused, match="not the seal"):
        approve(named=named)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"incumbent": "a" * 64}, "incumbent"),
        ({"report_sha256": "f" * 64}, "report_sha256"),
        ({"gate": {"min_comparisons": 1}}, "gate"),
        ({"reasons": ("won by less",)}, "reasons"),
        ({"decision": "hold"}, "decision"),
        ({"rollbacks": 1}, "rollbacks"),
    ],
)
def test_evidence_that_has_changed_is_refused_and_the_change_named(changes: dict[str, Any], named: str) -> None:
    changed = replace(SEEN, **changes)
    assert changed.seal != SEEN.seal
    with pytest.raises(Refused, match=rf"changed since it was sealed \({named}\)"):
        approve(now=changed)


def test_old_evidence_is_refused() -> None:
    with pytest.raises(Refused, match="more than 1 hours ago"):
        approve(now=replace(SEEN, sealed_at_us=1_000 + HOUR_US))


def test_a_reject_is_never_approvable() -> None:
    rejected = replace(SEEN, decision="reject", reasons=("no-op: nothing moves",))
    with pytest.raises(Refused, match="nobody can approve it: no-op"):
        approve(now=rejected, named=rejected.seal, sealed=rejected, override_hold=True)


def test_a_hold_needs_the_override_and_a_reason() -> None:
    held = replace(SEEN, decision="hold", reasons=("0 blind comparisons of 200 needed: hold",))
    with pytest.raises(Refused, match="--override-hold"):
        approve(now=held, named=held.seal, sealed=held)
    with pytest.raises(Refused, match="needs a reason"):
        approve(now=held, named=held.seal, sealed=held, override_hold=True, reason="")
    approve(now=held, named=held.seal, sealed=held, override_hold=True)
