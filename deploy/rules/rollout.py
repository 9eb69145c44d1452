"""The rollout as a pure state machine: who serves, which rollout is under way, and what a command makes of that.

    trained ─ gate ─► held | passed ─ approve ─► approved ─ promote ─► canary ─ promote … ─► full ─► superseded
                  └─► rejected                       └──── rollback ────┴─► rolled_back ◄──── rollback ┘

There is one rollout at a time. `halt` is the kill switch beside all this: the bare base serves until `resume`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from deploy.errors import Refused
from deploy.rules.assignment import Routing
from deploy.rules.names import percent, policy_name, short
from feedback.durable import canonical

CandidateState = Literal[
    "trained",
    "held",
    "passed",
    "rejected",
    "approved",
    "canary",
    "paused",
    "full",
    "rolled_back",
    "superseded",
    "halted",
]
"""`halted` is only shown, for what would be serving: underneath, the state stays what it was."""

Stage = Literal["gate", "shadow", "approval", "canary", "full"]

STAGE_OF: dict[CandidateState, Stage] = {
    "trained": "gate",
    "held": "gate",
    "passed": "approval",
    "approved": "approval",
    "canary": "canary",
    "paused": "canary",
    "full": "full",
    "superseded": "full",
}
"""How far a candidate in this state has come; one that is rejected or rolled back keeps the stage that it had. One that is
held comes to `shadow` where it answers a copy of some turns (`deploy.rules.shadow`)."""


@dataclass(frozen=True)
class Rollout:
    """The one under way. `share` is 0 until the first `promote`."""

    id: str
    candidate: str
    state: Literal["approved", "canary", "paused"]
    share: float
    approved_at_us: int
    salt: str | None = field(default=None, repr=False)
    """Keys the places of its units: secret. None where it began before there were any."""


@dataclass(frozen=True)
class Serving:
    """Everything that decides what is served. The default is a fresh deployment: the bare base."""

    incumbents: tuple[str | None, ...] = (None,)
    """Digests in the order in which they became the incumbent, the current one last; None is the bare base."""
    rollout: Rollout | None = None
    halted: bool = False

    @property
    def incumbent(self) -> str | None:
        return self.incumbents[-1]

    @property
    def adapter(self) -> str | None:
        """An adapter that answers somebody, unless everything is halted; None where the bare base answers all."""
        rollout = self.rollout
        return rollout.candidate if rollout is not None and rollout.share else self.incumbent

    @property
    def routing(self) -> Routing:
        """What the gateway needs of it."""
        if self.rollout is None or self.rollout.share == 0:
            return Routing(incumbent=self.incumbent, halted=self.halted)
        under_way = self.rollout
        return Routing(
            self.incumbent, under_way.candidate, under_way.id, under_way.share, self.halted, salt=under_way.salt
        )

    @property
    def revision(self) -> str:
        """Names this very state, eight hex digits: a command that says which one it was meant for can't act on another."""
        rollout = self.rollout
        under_way = [rollout.id, rollout.state, rollout.share] if rollout else None
        return hashlib.sha256(canonical([list(self.incumbents), under_way, self.halted])).hexdigest()[:8]

    def share(self, digest: str) -> float:
        """Of the units, the part that this adapter serves now, 0..1."""
        canary = self.rollout.share if self.rollout else 0.0
        if self.halted:
            return 0.0
        if self.rollout is not None and digest == self.rollout.candidate:
            return canary
        return 1.0 - canary if digest == self.incumbent else 0.0


@dataclass(frozen=True)
class Approve:
    """Start a rollout of `candidate`, or renew the approval of the one that waits for its first share.

    Whether the approval may be given is `approval.check`'s question; here it is whether there is room for it.
    """

    candidate: str
    rollout_id: str
    salt: str | None = field(default=None, repr=False)
    """Random, 64 hex digits."""


@dataclass(frozen=True)
class Promote:
    """To the next of `shares`, which rise to 1, and that is full; an approval lapses `expires_us` after it was given."""

    shares: Sequence[float]
    expires_us: int


@dataclass(frozen=True)
class Pause:
    """Keep the canary at its share: no promotion until `Resume`."""


@dataclass(frozen=True)
class Resume:
    """Lift the halt; where there is none, the pause."""


@dataclass(frozen=True)
class Rollback:
    """The rollout under way ends at share 0. `incumbent`: where there is none, the incumbent gives way to the earlier one.

    Taking down an incumbent has to be said: who typed the same rollback twice meant the rollout both times.
    """

    incumbent: bool = False


@dataclass(frozen=True)
class Halt:
    """The kill switch: the bare base serves everything. Always possible; again is fine."""


Command = Approve | Promote | Pause | Resume | Rollback | Halt


@dataclass(frozen=True)
class Moved:
    """What a command did, as data: the shell stores it and writes it into the history."""

    candidate: str | None
    """None: the whole service."""
    before: str | None
    """None: it was no part of the rollout yet."""
    after: CandidateState | Literal["serving"]
    share: float = 0.0


def transition(serving: Serving, command: Command, now_us: int) -> tuple[Serving, tuple[Moved, ...]]:
    """What the command makes of it, and what moved by that: nothing when all is as the command wants it already.

    Raises Refused with a sentence.
    """
    match command:
        case Approve():
            return _approve(serving, command, now_us)
        case Promote():
            return _promote(serving, command, now_us)
        case Pause():
            return _pause(serving)
        case Resume():
            return _resume(serving)
        case Rollback():
            return _rollback(serving, command)
        case Halt():
            moved = () if serving.halted else (Moved(None, "serving", "halted"),)
            return replace(serving, halted=True), moved


def _approve(serving: Serving, command: Approve, now_us: int) -> tuple[Serving, tuple[Moved, ...]]:
    rollout = serving.rollout
    if serving.halted:
        raise Refused("everything is halted: `trimtab resume` first, then approve")
    if command.candidate in serving.incumbents:
        raise Refused(f"{short(command.candidate)} is or was the incumbent already: `trimtab rollback` goes back to it")
    if rollout is not None and (rollout.candidate, rollout.state) == (command.candidate, "approved"):
        return replace(serving, rollout=replace(rollout, approved_at_us=now_us)), ()
    if rollout is not None:
        raise Refused(
            f"a rollout is under way ({short(rollout.candidate)} at {percent(rollout.share)}): "
            f"promote it to the end or roll it back first"
        )
    fresh = Rollout(command.rollout_id, command.candidate, "approved", 0.0, now_us, command.salt)
    return replace(serving, rollout=fresh), (Moved(command.candidate, None, "approved"),)


def _promote(serving: Serving, command: Promote, now_us: int) -> tuple[Serving, tuple[Moved, ...]]:
    rollout = serving.rollout
    if serving.halted:
        raise Refused("everything is halted: `trimtab resume` first, then promote")
    if rollout is None:
        raise Refused("no rollout is under way: approve a candidate first (`trimtab candidates` lists them)")
    if rollout.state == "paused":
        raise Refused(f"the rollout of {short(rollout.candidate)} is paused: `trimtab resume` first, then promote")
    if rollout.state == "approved" and now_us >= rollout.approved_at_us + command.expires_us:
        raise Refused(f"the approval of {short(rollout.candidate)} has expired: look at it again and approve it anew")
    share = next((share for share in command.shares if share > rollout.share), 1.0)
    if share < 1:
        moved = Moved(rollout.candidate, rollout.state, "canary", share)
        return replace(serving, rollout=replace(rollout, state="canary", share=share)), (moved,)
    moves = [Moved(rollout.candidate, rollout.state, "full", 1.0)]
    if serving.incumbent is not None:
        moves.append(Moved(serving.incumbent, "full", "superseded"))
    return replace(serving, incumbents=(*serving.incumbents, rollout.candidate), rollout=None), tuple(moves)


def _pause(serving: Serving) -> tuple[Serving, tuple[Moved, ...]]:
    rollout = serving.rollout
    if rollout is None or rollout.state == "approved":
        raise Refused("no canary is running, so there is nothing to pause (`trimtab halt` stops everything)")
    if rollout.state == "paused":
        return serving, ()
    moved = Moved(rollout.candidate, "canary", "paused", rollout.share)
    return replace(serving, rollout=replace(rollout, state="paused")), (moved,)


def _resume(serving: Serving) -> tuple[Serving, tuple[Moved, ...]]:
    rollout = serving.rollout
    if serving.halted:
        return replace(serving, halted=False), (Moved(None, "halted", "serving"),)
    if rollout is None or rollout.state != "paused":
        raise Refused("nothing is halted or paused")
    moved = Moved(rollout.candidate, "paused", "canary", rollout.share)
    return replace(serving, rollout=replace(rollout, state="canary")), (moved,)


def _rollback(serving: Serving, command: Rollback) -> tuple[Serving, tuple[Moved, ...]]:
    rollout = serving.rollout
    if rollout is not None and command.incumbent:
        raise Refused(
            f"a rollout is under way ({short(rollout.candidate)}): `trimtab rollback` ends that one first, and the incumbent "
            f"goes with another --incumbent"
        )
    if rollout is not None:
        return replace(serving, rollout=None), (Moved(rollout.candidate, rollout.state, "rolled_back"),)
    if serving.incumbent is None:
        raise Refused("there is nothing to roll back: no rollout is under way and the bare base is the incumbent")
    if not command.incumbent:
        raise Refused(
            f"no rollout is under way. To take {short(serving.incumbent)} down, which serves everything, add --incumbent: "
            f"{policy_name(serving.incumbents[-2])} would serve then"
        )
    moves = [Moved(serving.incumbent, "full", "rolled_back")]
    earlier = serving.incumbents[:-1]
    if earlier[-1] is not None:
        moves.append(Moved(earlier[-1], "superseded", "full", 1.0))
    return replace(serving, incumbents=earlier), tuple(moves)
