"""The offline gate: what a candidate's report must show before a person is asked. A pure function, with its reasons.

The yardstick are blind comparisons with the incumbent: evidence that people prefer the candidate (`weighing`). Everything else can
only hold or reject: too little evidence is a hold, never a pass. The reward model never decides, for the candidate was trained towards it; that it was judged on few
labels is said with the other reasons.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import msgspec
from msgspec import Struct

from deploy.rules.reasons import Reason
from deploy.rules.weighing import ALPHA, Comparisons
from deploy.settings import GateSettings

FEW_WANTED = 20
"""Fewer replies that people wanted tell nothing of their length."""


@dataclass(frozen=True)
class Pass:
    """A person may be asked."""

    reasons: tuple[Reason, ...]
    name: Literal["pass"] = "pass"


@dataclass(frozen=True)
class Hold:
    """Not enough to go by: a person may override it, with a reason."""

    reasons: tuple[Reason, ...]
    name: Literal["hold"] = "hold"


@dataclass(frozen=True)
class Reject:
    """Something is wrong: nobody can approve it. The reasons to hold come after those to reject."""

    reasons: tuple[Reason, ...]
    name: Literal["reject"] = "reject"


Decision = Pass | Hold | Reject


class _Stats(Struct, frozen=True):
    """Of one side's samples; `cut` of `count` had not ended at their limit (reports from before did not say)."""

    mean_tokens: float | None = None
    median_tokens: float | None = None
    count: int = 0
    cut: int = 0
    repetition: float | None = None
    language_match: float | None = None


class _Wanted(Struct, frozen=True):
    count: int
    median_tokens: float | None


class _SampleStats(Struct, frozen=True):
    candidate: _Stats
    incumbent: _Stats
    wanted: _Wanted | None = None


class _Probes(Struct, frozen=True):
    largest_difference: float


class _Facts(Struct, frozen=True):
    base_right: int
    lost: list[str]
    gained: list[str]


class _Retention(Struct, frozen=True):
    neutral_kl: float
    facts: _Facts
    gate_kl: float | None = None


class _Report(Struct, frozen=True):
    """The part of a report that the gate looks at."""

    sample_stats: _SampleStats
    probes: _Probes
    incumbent: str | None = None
    retention: _Retention | None = None
    """None in reports from before it was measured: they are judged as they were."""
    reward_model: Any = None


def decide(
    report: Mapping[str, Any],
    settings: GateSettings,
    comparisons: Comparisons,
    incumbent: str | None,
    rollbacks: int = 0,
) -> Decision:
    """What to do with the candidate of this report.

    `incumbent` is the digest that serves now (None: the bare base); `rollbacks` says how often this candidate was rolled
    back before: who approves it again has to know. All reasons are given, not only the first.
    """
    broken = _not_finite(report)
    if broken:
        return Reject((Reason("not_finite", {"names": broken}),))
    try:
        read = msgspec.convert(report, _Report)
    except msgspec.ValidationError as error:
        return Reject((Reason("unreadable_report", {"error": str(error)}),))
    wrong = [*_no_op(read.probes, settings), *_against_samples(read.sample_stats, settings)]
    lengths_decided = any(reason.code in ("too_long", "too_short") for reason in wrong)
    unsure = [
        *_other_incumbent(read.incumbent, incumbent),
        *_samples_missing(read.sample_stats),
        *_cut(read.sample_stats, settings, lengths_decided),
        *_forgotten(read.retention, settings),
    ]
    wrong += _leaked(comparisons)
    compared = _compared(comparisons)
    match compared.code:
        case "loses":
            wrong.append(compared)
        case "too_few_comparisons":
            unsure.append(compared)
    unsure += _lineage(comparisons)
    if rollbacks:
        unsure.append(Reason("rolled_back", {"times": rollbacks}))
    told = tuple(_few_labels(read.reward_model))
    if wrong:
        return Reject((*wrong, *unsure, *told))
    return Hold((*unsure, *told)) if unsure else Pass((compared, *told))


def _no_op(probes: _Probes, settings: GateSettings) -> Iterator[Reason]:
    if probes.largest_difference < settings.probe_floor:
        yield Reason("no_op", {"largest": probes.largest_difference, "floor": settings.probe_floor})


def _against_samples(stats: _SampleStats, settings: GateSettings) -> Iterator[Reason]:
    ours, theirs = stats.candidate, stats.incumbent
    if ours.mean_tokens is not None and ours.mean_tokens <= 0:
        yield Reason("empty")
    else:
        yield from _lengths(ours, theirs, stats.wanted, settings)
    if ours.repetition is not None and ours.repetition > settings.max_repetition:
        yield Reason("repetition", {"share": ours.repetition, "limit": settings.max_repetition})
    if ours.language_match is not None and theirs.language_match is not None:
        matches = {"candidate": ours.language_match, "incumbent": theirs.language_match}
        if theirs.language_match - ours.language_match > settings.max_language_loss:
            yield Reason("language", {"limit": settings.max_language_loss, **matches})


def _lengths(ours: _Stats, theirs: _Stats, wanted: _Wanted | None, settings: GateSettings) -> Iterator[Reason]:
    """The means are compared; where replies were cut at their limit, the medians, which it moves once half were cut only.

    Who left the incumbent's length for that of the replies that people wanted has done what was asked.
    """
    by_median = bool(ours.cut or theirs.cut)
    a, b = (s.median_tokens if by_median else s.mean_tokens for s in (ours, theirs))
    if not a or not b:
        return
    figures = {"ratio": max(a / b, b / a), "limit": settings.max_length_ratio, "candidate": a, "incumbent": b}
    longer = a > b
    if _is_wanted(ours, wanted, settings.max_length_ratio):
        return
    if figures["ratio"] > settings.max_length_ratio and _known(theirs if longer else ours):
        cut = {"cut": [ours.cut, theirs.cut], "at_least": not _known(ours if longer else theirs)} if by_median else {}
        yield Reason("too_long" if longer else "too_short", figures | cut)


def _is_wanted(ours: _Stats, wanted: _Wanted | None, limit: float) -> bool:
    """Whether replies are about as long as those of the gate split that people wanted, where these are enough to tell."""
    if wanted is None or wanted.count < FEW_WANTED or not wanted.median_tokens or not ours.median_tokens:
        return False
    return _known(ours) and 1 / limit <= ours.median_tokens / wanted.median_tokens <= limit


def _known(stats: _Stats) -> bool:
    """Whether the median is that of the whole replies: else they are at least so long."""
    return 2 * stats.cut < max(stats.count, 1)


def _cut(stats: _SampleStats, settings: GateSettings, decided: bool) -> Iterator[Reason]:
    """What the limit of sampled replies hides, unless lengths are `decided` all the same."""
    ours, theirs = stats.candidate, stats.incumbent
    if not ours.count or not theirs.count:
        return
    figures = {"candidate": ours.cut, "incumbent": theirs.cut, "candidate_of": ours.count, "incumbent_of": theirs.count}
    if not decided and not (_known(ours) and _known(theirs)):
        yield Reason("length_unknown", figures)
    elif ours.cut / ours.count - theirs.cut / theirs.count > settings.max_unended_rise:
        yield Reason("unended", figures | {"limit": settings.max_unended_rise})


def _samples_missing(stats: _SampleStats) -> Iterator[Reason]:
    ours, theirs = stats.candidate, stats.incumbent
    if ours.mean_tokens is None or theirs.mean_tokens is None or ours.repetition is None:
        yield Reason("no_samples")
    elif ours.mean_tokens > 0 and theirs.mean_tokens == 0:
        yield Reason("incumbent_empty")
    if theirs.language_match is not None and ours.language_match is None:
        yield Reason("language_unknown")


def _forgotten(retention: _Retention | None, settings: GateSettings) -> Iterator[Reason]:
    """How far the candidate went from the base, on prompts of its own and on neutral ones, and which facts it lost."""
    if retention is None:
        return
    measured = [
        ("gate", retention.gate_kl, settings.max_gate_kl),
        ("neutral", retention.neutral_kl, settings.max_neutral_kl),
    ]
    for prompts, kl, limit in measured:
        if kl is not None and kl > limit:
            yield Reason("retention_kl", {"prompts": prompts, "kl": kl, "limit": limit})
    facts = retention.facts
    if len(facts.lost) - len(facts.gained) > settings.max_facts_lost:
        lost = {"lost": facts.lost, "gained": len(facts.gained), "of": facts.base_right}
        yield Reason("retention_facts", lost | {"limit": settings.max_facts_lost})


def _few_labels(reward_model: object) -> Iterator[Reason]:
    """Said, and decides nothing: the reward model was judged on few labels, or on some that tell nothing."""
    match reward_model:
        case {"few": str(few)}:
            yield Reason("few_gate_labels", {"few": few})


def _other_incumbent(compared_with: str | None, incumbent: str | None) -> Iterator[Reason]:
    if compared_with != incumbent:
        yield Reason("other_incumbent", {"compared": compared_with, "serves": incumbent})


def _leaked(comparisons: Comparisons) -> Iterator[Reason]:
    """A label that gates never trains: who was trained on its turn was told the answer."""
    if comparisons.leaked:
        yield Reason("leaked_labels", {"turns": list(comparisons.leaked)})


def _lineage(comparisons: Comparisons) -> Iterator[Reason]:
    if comparisons.lineage_unknown is not None:
        yield Reason("lineage_unknown", {"why": comparisons.lineage_unknown})


def _compared(comparisons: Comparisons) -> Reason:
    """`wins`, `loses` or `too_few_comparisons`, with the figures that say so."""
    figures = comparisons.figures
    if comparisons.log_e_loses >= math.log(1 / ALPHA):
        return Reason("loses", figures)
    if comparisons.log_e >= comparisons.log_threshold:
        return Reason("wins", figures)
    return Reason("too_few_comparisons", figures)


def _not_finite(value: object, name: str = "") -> list[str]:
    """Names of the numbers that are infinite or not a number, anywhere in the report."""
    if isinstance(value, float) and not math.isfinite(value):
        return [name]
    if isinstance(value, Mapping):
        return [found for key, part in value.items() for found in _not_finite(part, f"{name}.{key}".lstrip("."))]
    if isinstance(value, list | tuple):
        return [found for at, part in enumerate(value) for found in _not_finite(part, f"{name}[{at}]")]
    return []
