"""The shadow stage: which candidate answers a copy of some turns, unseen, and until when. Pure.

It is the newest one that lacks nothing but comparisons, one at a time, and never beside a rollout. Once there is evidence
enough, or something else decides, the stage ends; at its longest the candidate stays held and a person has to look.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from deploy.errors import Refused
from deploy.rules.assignment import Shadow
from deploy.rules.elapsed import elapsed_s
from deploy.rules.names import short
from deploy.rules.reasons import Code
from deploy.rules.rollout import Serving
from deploy.serving_settings import ShadowSettings

LACKING: frozenset[Code] = frozenset({"too_few_comparisons"})
"""Reasons to hold that more comparisons end."""

TOLD: frozenset[Code] = frozenset({"few_gate_labels"})
"""Reasons that are said, and decide nothing."""

Outcome = Literal["passed", "rejected", "held", "other_reasons", "overtaken", "objected", "off", "stopped"]
"""How a shadow ended: by the gate, at its longest, by a rollout, a person's objection, the settings, or a person."""

AGAIN: frozenset[Outcome] = frozenset({"overtaken", "objected", "off", "other_reasons"})
"""After these the same candidate may come into the shadow again by itself: what ended it may pass."""


def comparisons_alone(codes: frozenset[Code]) -> bool:
    """Whether of reasons to hold more comparisons end all that decide."""
    decides = codes - TOLD
    return bool(decides) and decides <= LACKING


@dataclass(frozen=True)
class Waiting:
    """A candidate, as this stage sees it."""

    digest: str
    undecided: bool
    """Nobody has approved or rejected it, nor has it served."""
    outcome: str | None = None
    """Of the gate: pass, hold or reject; None where it has not said."""
    codes: frozenset[Code] = frozenset()
    objected: bool = False
    ended: Outcome | None = None
    """How its last shadow ended; None where it had none."""

    @property
    def lacks_comparisons(self) -> bool:
        """Whether it is held for want of comparisons alone.

        >>> Waiting("c", True, "hold", frozenset({"too_few_comparisons", "few_gate_labels"})).lacks_comparisons
        True
        >>> Waiting("c", True, "hold", frozenset({"too_few_comparisons", "rolled_back"})).lacks_comparisons
        False
        """
        return self.undecided and self.outcome == "hold" and comparisons_alone(self.codes)


@dataclass(frozen=True)
class Begin:
    """This one comes into the shadow."""

    candidate: str
    why: str


@dataclass(frozen=True)
class End:
    """The shadow is over."""

    outcome: Outcome
    why: str


def step(
    under_way: Shadow | None,
    candidates: Sequence[Waiting],
    serving: Serving,
    settings: ShadowSettings,
    takes_adapters: bool,
    now_us: int,
) -> Begin | End | None:
    """What is to be done now; None: nothing. `candidates`, the newest first, have the one in the shadow among them."""
    if under_way is not None:
        one = next((each for each in candidates if each.digest == under_way.candidate), None)
        return _end(under_way, one, serving, settings, now_us)
    if why_not(serving, settings, takes_adapters) is not None:
        return None
    newest = next((each for each in candidates if each.lacks_comparisons), None)
    if newest is None or newest.objected or not (newest.ended is None or newest.ended in AGAIN):
        return None
    return Begin(newest.digest, "nothing but comparisons is missing")


def why_not(serving: Serving, settings: ShadowSettings, takes_adapters: bool) -> str | None:
    """Why no candidate at all may come into the shadow now; None where one may."""
    if not takes_adapters:
        return "this engine takes no adapters"
    if not settings.share:
        return "shadow.share is 0"
    if serving.halted:
        return "everything is halted"
    if serving.rollout is not None:
        return f"the rollout of {short(serving.rollout.candidate)} is under way"
    return None


def check_start(one: Waiting, serving: Serving, settings: ShadowSettings, takes_adapters: bool) -> None:
    """Whether a person may put this one into the shadow; raises Refused with the reason why not."""
    if (why := why_not(serving, settings, takes_adapters)) is not None:
        raise Refused(f"nothing can be compared in the shadow now: {why}")
    if one.objected:
        raise Refused(f"somebody objects to {short(one.digest)}: `trimtab show {short(one.digest)}` says who and why")
    if not one.lacks_comparisons:
        raise Refused(
            f"comparisons are not all that {short(one.digest)} lacks, so the shadow would not help: "
            f"`trimtab show {short(one.digest)}` says why"
        )


def _end(under_way: Shadow, one: Waiting | None, serving: Serving, settings: ShadowSettings, now_us: int) -> End | None:
    lasted_s = elapsed_s(under_way.started_at_us, now_us)
    if serving.rollout is not None:
        return End("overtaken", f"the rollout of {short(serving.rollout.candidate)} began")
    if one is None or not one.undecided or one.outcome == "reject":
        return End("rejected", "it was rejected")
    if one.objected:
        return End("objected", "somebody objects to it")
    if not settings.share:
        return End("off", "shadow.share is 0")
    if one.outcome == "pass":
        return End("passed", "the gate passes it") if lasted_s >= under_way.min_s else None
    if one.outcome == "hold" and not one.lacks_comparisons:
        return End("other_reasons", f"it is held for more than comparisons now: {', '.join(sorted(one.codes))}")
    if lasted_s >= under_way.max_s:
        return End("held", f"there is not enough evidence after {under_way.max_s / 86_400:.3g} days")
    return None
