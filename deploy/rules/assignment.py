"""Which arm answers a unit: a pure choice, stored when the unit is enrolled and kept while its outcome is looked at.

A unit is a user, or a conversation where no user is known: nobody has both arms at a time. Its place within a rollout is a
hash of both, so a rising share only ever adds units to the candidate's side. The hash is keyed with the rollout's salt, which
is told to nobody: who names a user or a conversation can't choose an arm by the name. Once its window is over a unit of the
incumbent's is enrolled again where the share has risen, with the probability that its place leaves it; one of the candidate's
stays. A conversation under way keeps its arm to its end.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass, field
from typing import Literal

from feedback.statistics.entering import entry_share
from feedback.statistics.plan import DAY_US, HOUR_US

GRACE_US = HOUR_US
WINDOW_US = 3 * DAY_US + GRACE_US
"""How long a unit keeps its arm at least: as long as its outcome is looked at, and grace for what arrives late."""

Arm = Literal["candidate", "incumbent"]


@dataclass(frozen=True)
class Shadow:
    """A candidate that answers a copy of some turns, unseen (`deploy.rules.shadow`)."""

    id: str
    candidate: str
    started_at_us: int
    min_s: int
    max_s: int
    """It lasts so long, as the settings were when it began."""
    salt: str = field(repr=False, compare=False)
    """Keys the places of its units: secret."""


@dataclass(frozen=True)
class Routing:
    """Who serves now. Digests are 64 hex digits; `incumbent` None is the bare base, `candidate` None no canary."""

    incumbent: str | None = None
    candidate: str | None = None
    rollout_id: str | None = None
    share: float = 0.0
    """Of the units, the part that new conversations put on the candidate, 0..1."""
    halted: bool = False
    """The kill switch: everything serves the bare base, whatever the other fields say."""
    salt: str | None = field(default=None, repr=False, compare=False)
    """The rollout's, which its id stands for: secret. None for a rollout that began before there were any."""
    shadow: Shadow | None = None
    """Never beside a rollout, nor while everything is halted."""

    @property
    def adapters(self) -> dict[str, str]:
        """Digests of all adapters that may have to answer, by what they are for; the most wanted first."""
        shadowed = self.shadow.candidate if self.shadow is not None else None
        named = {"incumbent": self.incumbent, "candidate": self.candidate, "shadow": shadowed}
        return {role: digest for role, digest in named.items() if digest is not None}

    def policy(self, arm: Arm) -> str | None:
        """Digest of the adapter that serves this arm now; None for the bare base."""
        if self.halted:
            return None
        return self.candidate if arm == "candidate" and self.candidate is not None else self.incumbent


@dataclass(frozen=True, slots=True)
class Conversation:
    """One whose next turn is to be served. `unit`: the hashed user id, or the conversation where no user is known."""

    tenant: str
    conversation_id: str
    unit: str
    at_us: int


@dataclass(frozen=True, slots=True)
class Enrolment:
    """A unit's draw within a rollout: what its outcome is evidence of, whatever serves it then (intention to treat)."""

    rollout_id: str
    tenant: str
    unit: str
    number: int
    """0 for the first of this unit."""
    arm: Arm
    probability: float
    """With which it came to the candidate's arm."""
    share: float
    """The rollout's then."""
    at_us: int


@dataclass(frozen=True)
class Assignment:
    """The arm that a conversation got at its first exposure, and the share at that time."""

    rollout_id: str
    tenant: str
    conversation_id: str
    unit: str
    arm: Arm
    share: float
    at_us: int


@dataclass(frozen=True, slots=True)
class Exposure:
    """What one turn is served with; `rollout_id` None when there is no canary or everything is halted."""

    policy: str | None
    arm: Arm = "incumbent"
    rollout_id: str | None = None
    share: float = 0.0


def enrol(conversation: Conversation, routing: Routing, last: Enrolment | None) -> Enrolment:
    """The enrolment that decides for a new conversation: the unit's last one, or where that is over and it is drawn again, a new one.

    There has to be a rollout with a share.

    >>> routing = Routing(candidate="c", rollout_id="r", share=1.0)
    >>> enrol(Conversation("t", "c", "u", 1), routing, None).arm
    'candidate'
    """
    assert routing.rollout_id is not None
    tenant, unit, now_us = conversation.tenant, conversation.unit, conversation.at_us
    low = None if last is None else last.share
    if last is not None and (last.arm == "candidate" or now_us < last.at_us + WINDOW_US or routing.share <= last.share):
        return last
    drawn = place(routing.rollout_id, routing.salt, f"{tenant}/{unit}") < routing.share
    number, probability = 0 if last is None else last.number + 1, entry_share(routing.share, low)
    arm: Arm = "candidate" if drawn else "incumbent"
    return Enrolment(routing.rollout_id, tenant, unit, number, arm, probability, routing.share, now_us)


def exposed(routing: Routing, stored: Assignment | Exposure | None) -> Exposure | None:
    """What serves a conversation's next turn; None where an arm has to be chosen and stored for it first.

    `stored` is what this very conversation was assigned before, as far as it is known.

    >>> exposed(Routing(incumbent="i"), None)
    Exposure(policy='i', arm='incumbent', rollout_id=None, share=0.0)
    >>> exposed(Routing(incumbent="i", candidate="c", rollout_id="r", share=0.5), None)
    """
    if routing.halted or routing.rollout_id is None:
        return Exposure(routing.policy("incumbent"))
    if stored is None or stored.rollout_id != routing.rollout_id:
        return None
    return Exposure(routing.policy(stored.arm), stored.arm, stored.rollout_id, stored.share)


def place(rollout_id: str, salt: str | None, unit: str) -> float:
    """Where the unit stands in this rollout (or shadow): uniform in [0, 1), independent between rollouts.

    Without a salt anybody can compute it: so do rollouts go on that began before there were any.
    """
    text = f"{len(rollout_id)}:{rollout_id}{unit}".encode("utf-8", "surrogatepass")
    hashed = hashlib.sha256(text).digest() if salt is None else hmac.digest(bytes.fromhex(salt), text, "sha256")
    return int.from_bytes(hashed[:6], "big") / 2**48
