"""An approval binds a person's yes to the evidence that they saw: it names the seal, the sha256 of that evidence.

When anything in the evidence changes (the report, the gate's decision or its settings, the incumbent), or time runs
out, the seal is another one, and whoever approves has to look again.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from deploy.errors import Refused
from feedback.durable import canonical

MIN_PREFIX = 12
"""Fewest characters by which a seal may be named."""


@dataclass(frozen=True)
class Evidence:
    """All that an approval of this candidate rests on."""

    candidate: str
    dataset_hash: str
    report_sha256: str
    decision: str
    reasons: tuple[str, ...]
    gate: dict[str, Any]
    """The gate's settings that led to it."""
    incumbent: str | None
    rollbacks: int
    """How often this candidate was rolled back before."""
    sealed_at_us: int

    def document(self) -> dict[str, Any]:
        """As JSON values."""
        return dataclasses.asdict(self) | {"reasons": list(self.reasons)}

    @property
    def seal(self) -> str:
        """64 hex digits."""
        return hashlib.sha256(canonical(self.document())).hexdigest()


def same(sealed: dict[str, Any], now: Evidence) -> bool:
    """Whether nothing but the time has changed since this document was sealed."""
    return {**sealed, "sealed_at_us": 0} == {**now.document(), "sealed_at_us": 0}


def check(
    named: str, sealed: dict[str, Any], now: Evidence, *, reason: str, override_hold: bool, expires_us: int
) -> None:
    """Whether an approval that names the seal `named` may be given; raises Refused with the reason why not.

    `sealed` is the candidate's latest sealed evidence, `now` what would be sealed at this moment.
    """
    look = f"look again with `trimtab show {now.candidate[:12]}`"
    seal = hashlib.sha256(canonical(sealed)).hexdigest()
    if now.decision == "reject":
        raise Refused(f"the gate rejected {now.candidate[:12]}, nobody can approve it: {_first(now.reasons)}")
    if not matches(named, seal):
        raise Refused(f"{named[:64]!r} is not the seal of the present evidence: {look}")
    if now.sealed_at_us >= sealed["sealed_at_us"] + expires_us:
        raise Refused(f"the evidence was sealed more than {expires_us / 3.6e9:g} hours ago: {look}")
    if not same(sealed, now):
        raise Refused(f"the evidence has changed since it was sealed ({', '.join(_changed(sealed, now))}): {look}")
    if not reason:
        raise Refused("an approval needs a reason: add --reason with a sentence for whoever asks later")
    if now.decision == "hold" and not override_hold:
        raise Refused(
            f"the gate holds {now.candidate[:12]} ({_first(now.reasons)}): add --override-hold if you know better"
        )


def matches(named: str, seal: str) -> bool:
    """Whether `named` is the seal, or an honest prefix of it."""
    wanted = named.strip().lower()
    return len(wanted) >= MIN_PREFIX and seal.startswith(wanted)


def _changed(sealed: dict[str, Any], now: Evidence) -> list[str]:
    document = now.document()
    return sorted(key for key in document if key != "sealed_at_us" and sealed.get(key) != document[key])


def _first(reasons: Sequence[str]) -> str:
    more = f" (and {len(reasons) - 1} more)" if len(reasons) > 1 else ""
    return f"{reasons[0]}{more}" if reasons else "no reason was given"
