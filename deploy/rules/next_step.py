"""What to type next: the one place that knows. Whatever shows a state proposes what fits it, and nothing it would refuse."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from deploy.rules.names import policy_name, short
from deploy.rules.rollout import CandidateState, Rollout, Serving

InShadow = Literal["under way", "may begin", "off"]
"""Whether a candidate answers a copy of live turns."""


@dataclass(frozen=True)
class Lacks:
    """Where a candidate gets more comparisons from: pairs of which people, or the judge, still have to speak, and the shadow."""

    people: int = 0
    second: int = 0
    """Of those that wait for people the ones that wait for a second person."""
    judge: int = 0
    shadow: InShadow = "off"


@dataclass(frozen=True)
class Look:
    """A candidate as somebody sees it; `outcome` and `seal` are those of its last seal, None before the first."""

    digest: str
    state: CandidateState
    outcome: str | None = None
    seal: str | None = None
    lacks: Lacks | None = None
    """None: comparisons are not all that it is held for."""
    objected: bool = False
    """Somebody objects to it."""


@dataclass(frozen=True)
class Situation:
    """What there is to know."""

    serving: Serving
    candidate: Look | None = None
    """The one that is looked at; None: the service as a whole."""
    waiting: Look | None = None
    """The newest candidate that waits for an approval or a rejection."""
    request: str | None = None
    """A training that waits for a person's yes."""
    events: bool = True
    """Whether there is any event among the facts."""
    trained: bool = True
    """Whether there is any candidate."""
    running: bool = True
    """Whether the service runs."""
    adapters: bool = True
    """Whether the engine takes adapters: else there is nothing that a candidate could come to."""
    mismatched: bool = False
    """Whether the users of the rollout did not come to the arms as they were drawn."""
    undecided: bool = False
    """Whether the evidence for the rollout's next share, or the least time of this one, is still to come."""


def next_step(situation: Situation) -> str:
    """One line: a command, and where it helps what it does.

    >>> next_step(Situation(Serving(), events=False))
    'trimtab replay FILE, or connect your bot (docs/connect-your-bot.md)'
    """
    serving, candidate = situation.serving, situation.candidate
    if serving.halted:
        expect = f"--expect {serving.revision}"
        if not situation.adapters and serving.adapter is not None:
            back = "rollback" if serving.rollout is not None else "rollback --incumbent"
            return f"trimtab {back} {expect}: this engine takes no adapters, so it can't be resumed before"
        also = f", or trimtab rollback {expect} takes the rollout out for good" if serving.rollout is not None else ""
        return f"trimtab resume {expect} --reason … (once it is safe){also}"
    if not situation.adapters:
        return _unadapted(situation)
    if candidate is not None and candidate.digest not in _serving(serving):
        return _about(candidate, situation)
    if serving.rollout is not None:
        return _under_way(serving.rollout, situation)
    if candidate is not None and candidate.digest == serving.incumbent:
        return f"trimtab rollback --incumbent --expect {serving.revision} goes back to {policy_name(serving.incumbents[-2])}"
    return _idle(situation)


def _serving(serving: Serving) -> set[str | None]:
    return {serving.incumbent, serving.rollout.candidate if serving.rollout is not None else None}


def _about(candidate: Look, situation: Situation) -> str:
    name, rollout = short(candidate.digest), situation.serving.rollout
    if candidate.state not in ("trained", "held", "passed") or candidate.outcome == "reject":
        return "trimtab train makes another one"
    if rollout is not None:
        return f"{_under_way(rollout, situation)}: the rollout of {short(rollout.candidate)} comes first"
    if candidate.objected:
        return f'trimtab object {name} --withdraw --reason "…", once it is settled: before that nobody can approve it'
    if candidate.lacks is not None and (line := _more_comparisons(name, candidate.lacks)) is not None:
        return line
    hold = " --override-hold" if candidate.outcome == "hold" else ""
    seal = f" --evidence {candidate.seal[:16]}" if candidate.seal else ""
    return f'trimtab approve {name}{seal}{hold} --reason "…"'


def _more_comparisons(name: str, lacks: Lacks) -> str | None:
    """What brings them; None where nothing does."""
    then, copied = f"(then trimtab show {name})", "it answers a copy of live turns, to be compared"
    if lacks.people:
        whom = "people" if lacks.second < lacks.people else "another person than has labelled"
        return f"trimtab label: {_wait(lacks.people)} for {whom} {then}"
    if lacks.judge:
        return f"nothing: {_wait(lacks.judge)} for the judge {then}"
    match lacks.shadow:
        case "under way":
            return f"nothing: {copied} {then}"
        case "may begin":
            return f'trimtab shadow start {name} --reason "…": {copied}'
        case "off":
            return None


def _wait(pairs: int) -> str:
    return "1 pair waits" if pairs == 1 else f"{pairs:,} pairs wait"


def _under_way(rollout: Rollout, situation: Situation) -> str:
    expect = f"--expect {situation.serving.revision}"
    if situation.mismatched:
        return f"trimtab rollback {expect} --reason … (once it is found why its users did not come as they were drawn)"
    match rollout.state:
        case "approved":
            return f"trimtab promote {expect} gives {short(rollout.candidate)} its first share"
        case "canary" if situation.undecided:
            return f"nothing until its evidence is there, or trimtab pause {expect}, or trimtab rollback {expect}"
        case "canary":
            return f"trimtab promote {expect}, or trimtab pause {expect}, or trimtab rollback {expect}"
        case "paused":
            return f"trimtab resume {expect}, or trimtab rollback {expect}"


def _unadapted(situation: Situation) -> str:
    """Where nothing that is trained can be served."""
    serving = situation.serving
    if serving.rollout is not None:
        return f"trimtab rollback --expect {serving.revision}: this engine takes no adapters"
    if not situation.running:
        return "trimtab up"
    if not situation.events:
        return "connect your bot (docs/connect-your-bot.md)"
    return "trimtab dataset seal, whenever you want a snapshot: this engine takes no adapters, so none is trained"


def _idle(situation: Situation) -> str:
    if situation.request is not None:
        return f'trimtab approve {situation.request} --reason "…"'
    if situation.waiting is not None:
        return f"trimtab show {short(situation.waiting.digest)}"
    if not situation.events:
        return "trimtab replay FILE, or connect your bot (docs/connect-your-bot.md)"
    if not situation.trained:
        return "trimtab train"
    if not situation.running:
        return "trimtab up"
    return "nothing: the rules in [train] say when the next training comes"
