"""An approval binds a person's yes to the evidence that they saw: it names the seal, the sha256 of that evidence.

A seal is frozen: candidate, dataset, report, incumbent, the policy (the gate's settings, the rollout's, how long an approval
is good), the outcome and its reasons as data. Evidence goes on moving: an approval is good until it expires, or
until the outcome, a reason's code or the incumbent is another one. Figures may move. What is asked of the evidence later is
what the policy asked that was approved.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from deploy.errors import Refused
from deploy.rules.names import policy_name, short
from deploy.rules.reasons import Reason, as_json, codes, from_json, in_short
from deploy.settings import GateSettings, RolloutSettings
from feedback.durable import canonical

MIN_PREFIX = 12
"""Fewest characters by which a seal may be named."""

VERSION = 2
"""Of a seal's document. Seals of version 1 held reasons as prose and no shares: they are history."""

Outcome = Literal["pass", "hold", "reject"]


@dataclass(frozen=True)
class Policy:
    """By which rules a candidate is judged and rolled out."""

    gate: GateSettings
    rollout: RolloutSettings
    expires_s: int
    """How long an approval is good for its first share."""

    @property
    def shares(self) -> tuple[float, ...]:
        """Of units, rising to 1."""
        return self.rollout.shares

    def document(self) -> dict[str, Any]:
        """As JSON values."""
        settings = {"gate": self.gate.model_dump(mode="json"), "rollout": self.rollout.model_dump(mode="json")}
        return settings | {"expires_s": self.expires_s}


@dataclass(frozen=True)
class Evidence:
    """All that an approval of this candidate rests on."""

    candidate: str
    dataset_hash: str
    report_sha256: str
    incumbent: str | None
    policy: Policy
    outcome: Outcome
    reasons: tuple[Reason, ...]
    sealed_at_us: int

    def document(self) -> dict[str, Any]:
        """As JSON values."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return fields | {"version": VERSION, "policy": self.policy.document(), "reasons": as_json(self.reasons)}

    @property
    def seal(self) -> str:
        """64 hex digits."""
        return hashlib.sha256(canonical(self.document())).hexdigest()


def evidence_of(document: Mapping[str, Any]) -> Evidence:
    """The evidence in a seal's document of this version."""
    policy = document["policy"]
    rollout = policy.get(
        "rollout", {"shares": policy.get("shares")}
    )  # before rollouts were watched there were shares alone
    gate = {name: value for name, value in policy["gate"].items() if name in GateSettings.model_fields}  # some are gone
    fields = {field.name: document[field.name] for field in dataclasses.fields(Evidence)}
    return Evidence(
        **fields
        | {
            "policy": Policy(GateSettings(**gate), RolloutSettings(**rollout), policy["expires_s"]),
            "reasons": from_json(document["reasons"]),
        }
    )


def same(one: Evidence, other: Evidence) -> bool:
    """Whether nothing but the time is different."""
    return dataclasses.replace(one, sealed_at_us=0) == dataclasses.replace(other, sealed_at_us=0)


def check(sealed: Evidence, now: Evidence, now_us: int, *, reason: str, override_hold: bool) -> None:
    """Whether an approval that names this seal may be given; raises Refused with the reason why not.

    `now` is what the evidence says at this moment by the policy that was sealed.
    """
    name = short(now.candidate)
    look = f"look again with `trimtab show {name}`"
    if now.outcome == "reject":
        raise Refused(f"the gate rejected {name}, nobody can approve it: {in_short(now.reasons)}")
    if now_us >= sealed.sealed_at_us + sealed.policy.expires_s * 1_000_000:
        raise Refused(f"the evidence was sealed more than {sealed.policy.expires_s / 3600:g} hours ago: {look}")
    if changed := list(changes(sealed, now)):
        raise Refused(f"the evidence has changed since it was sealed ({'; '.join(changed)}): {look}")
    if not reason:
        raise Refused("an approval needs a reason: add --reason with a sentence for whoever asks later")
    if now.outcome == "hold" and not override_hold:
        raise Refused(f"the gate holds {name} ({in_short(now.reasons)}): add --override-hold if you know better")


def check_step(approved: Evidence, now: Evidence, *, reason: str, override_hold: bool) -> None:
    """Whether a rollout may take its next step on what was approved; raises Refused by name where it would no longer pass.

    `now` is what the evidence says at this moment by the policy that was approved. A person may override it, but for another
    incumbent: that is another comparison.
    """
    against, name = worse(approved, now), short(now.candidate)
    if now.incumbent != approved.incumbent:
        raise Refused(
            f"{name} was approved against {policy_name(approved.incumbent)}, and {policy_name(now.incumbent)} serves now: "
            f"`trimtab rollback`, then approve it anew"
        )
    if against and not override_hold:
        raise Refused(
            f"the gate would {'reject' if now.outcome == 'reject' else 'hold'} {name} now ({in_short(now.reasons)}): "
            f"`trimtab rollback`, or add --override-hold and --reason if you know better"
        )
    if against and not reason:
        raise Refused("going on against the gate needs a reason: add --reason with a sentence for whoever asks later")


def worse(approved: Evidence, now: Evidence) -> bool:
    """Whether the gate would not let pass now what was approved: a reject, or a hold for a reason that nobody overrode."""
    return now.outcome == "reject" or (now.outcome == "hold" and not codes(now.reasons) <= codes(approved.reasons))


def changes(sealed: Evidence, now: Evidence) -> Iterator[str]:
    """What ends an approval, in words; nothing where only figures moved."""
    if sealed.outcome != now.outcome:
        yield f"outcome: {sealed.outcome} became {now.outcome}"
    before, after = codes(sealed.reasons), codes(now.reasons)
    if before != after:
        gone, new = ", ".join(sorted(before - after)), ", ".join(sorted(after - before))
        yield f"reasons: {'; '.join(filter(None, (new and f'{new} came', gone and f'{gone} went')))}"
    if sealed.incumbent != now.incumbent:
        yield f"incumbent: {policy_name(sealed.incumbent)} became {policy_name(now.incumbent)}"


def matches(named: str, seal: str) -> bool:
    """Whether `named` is the seal, or an honest prefix of it."""
    wanted = named.strip().lower()
    return len(wanted) >= MIN_PREFIX and seal.startswith(wanted)
