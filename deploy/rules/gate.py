"""The offline gate: what a candidate's report must show before a person is asked. A pure function, with its reasons.

The yardstick is the blind win rate against the incumbent. Everything else can only hold or reject: too little evidence
is a hold, never a pass. The reward model never decides, for the candidate was trained towards it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import msgspec
from msgspec import Struct

from deploy.settings import GateSettings
from feedback.statistics.intervals import wilson

MAX_NAMED = 5
"""Numbers that are named in one reason; the rest are counted."""


@dataclass(frozen=True)
class Comparisons:
    """Blind comparisons of the candidate's replies with the incumbent's, on gate-split prompts."""

    wins: int = 0
    ties: int = 0
    losses: int = 0

    @property
    def count(self) -> int:
        return self.wins + self.ties + self.losses

    @property
    def win_rate(self) -> float:
        """A tie is half a win. Only where there is any comparison."""
        return (self.wins + self.ties / 2) / self.count


@dataclass(frozen=True)
class Pass:
    """A person may be asked."""

    reasons: tuple[str, ...]
    name: Literal["pass"] = "pass"


@dataclass(frozen=True)
class Hold:
    """Not enough to go by: a person may override it, with a reason."""

    reasons: tuple[str, ...]
    name: Literal["hold"] = "hold"


@dataclass(frozen=True)
class Reject:
    """Something is wrong: nobody can approve it. The reasons to hold come after those to reject."""

    reasons: tuple[str, ...]
    name: Literal["reject"] = "reject"


Decision = Pass | Hold | Reject


class _Stats(Struct, frozen=True):
    mean_tokens: float | None = None
    repetition: float | None = None
    language_match: float | None = None


class _SampleStats(Struct, frozen=True):
    candidate: _Stats
    incumbent: _Stats


class _Probes(Struct, frozen=True):
    largest_difference: float


class _Report(Struct, frozen=True):
    """The part of a report that the gate looks at."""

    sample_stats: _SampleStats
    probes: _Probes
    incumbent: str | None = None


def decide(
    report: Mapping[str, Any], settings: GateSettings, comparisons: Comparisons, incumbent: str | None
) -> Decision:
    """What to do with the candidate of this report.

    `incumbent` is the digest that serves now (None: the bare base). All reasons are given, not only the first.
    """
    broken = _not_finite(report)
    if broken:
        return Reject((f"not finite: {_named(broken)}",))
    try:
        read = msgspec.convert(report, _Report)
    except msgspec.ValidationError as error:
        return Reject((f"the report can't be judged: {error}",))
    wrong = [*_no_op(read.probes, settings), *_against_samples(read.sample_stats, settings)]
    unsure = [*_other_incumbent(read.incumbent, incumbent), *_samples_missing(read.sample_stats)]
    judged, good = _win_rate(comparisons, settings)
    match judged:
        case "worse":
            wrong.append(good)
        case "unsure":
            unsure.append(good)
    if wrong:
        return Reject((*wrong, *unsure))
    return Hold(tuple(unsure)) if unsure else Pass((good,))


def _no_op(probes: _Probes, settings: GateSettings) -> Iterator[str]:
    if probes.largest_difference < settings.probe_floor:
        yield (
            f"no-op: the adapter moves no probe by more than {probes.largest_difference:.2g} nats per token "
            f"(floor {settings.probe_floor:.2g})"
        )


def _against_samples(stats: _SampleStats, settings: GateSettings) -> Iterator[str]:
    ours, theirs = stats.candidate, stats.incumbent
    if ours.mean_tokens is not None and ours.mean_tokens <= 0:
        yield "empty: every sampled reply is empty"
    elif ours.mean_tokens is not None and theirs.mean_tokens:
        ratio = max(ours.mean_tokens / theirs.mean_tokens, theirs.mean_tokens / ours.mean_tokens)
        if ratio > settings.max_length_ratio:
            longer = "longer" if ours.mean_tokens > theirs.mean_tokens else "shorter"
            yield (
                f"length: sampled replies are {ratio:.1f} times {longer} than the incumbent's "
                f"({ours.mean_tokens:.0f} and {theirs.mean_tokens:.0f} tokens; limit {settings.max_length_ratio:g} times)"
            )
    if ours.repetition is not None and ours.repetition > settings.max_repetition:
        yield (
            f"repetition: {ours.repetition:.2f} of the word 3-grams in sampled replies repeat "
            f"(limit {settings.max_repetition:.2f})"
        )
    if ours.language_match is not None and theirs.language_match is not None:
        loss = theirs.language_match - ours.language_match
        if loss > settings.max_language_loss:
            yield (
                f"language: {ours.language_match:.0%} of sampled replies are in the prompt's language, "
                f"the incumbent's {theirs.language_match:.0%} (largest drop {settings.max_language_loss:.0%})"
            )


def _samples_missing(stats: _SampleStats) -> Iterator[str]:
    ours, theirs = stats.candidate, stats.incumbent
    if ours.mean_tokens is None or theirs.mean_tokens is None or ours.repetition is None:
        yield "no sampled replies to look at (the gate split has no prompts yet): hold"
    elif ours.mean_tokens > 0 and theirs.mean_tokens == 0:
        yield "the incumbent's sampled replies are all empty, so there is no length to compare with: hold"
    if theirs.language_match is not None and ours.language_match is None:
        yield "the language of the sampled replies can't be told, the incumbent's can: hold"


def _other_incumbent(compared_with: str | None, incumbent: str | None) -> Iterator[str]:
    if compared_with != incumbent:
        yield f"the report compares with {_policy(compared_with)}, but {_policy(incumbent)} serves now: hold"


def _win_rate(comparisons: Comparisons, settings: GateSettings) -> tuple[Literal["better", "worse", "unsure"], str]:
    n, floor = comparisons.count, settings.min_win_rate_bound
    if n < settings.min_comparisons:
        return "unsure", f"{n} blind comparisons of {settings.min_comparisons} needed: hold"
    lower, upper = wilson(comparisons.win_rate, n, settings.confidence)
    if lower > floor:
        return "better", f"win rate {comparisons.win_rate:.2f}, lower bound {lower:.3f} > {floor:.2f}, n={n}"
    if upper < floor:
        return "worse", f"win rate {comparisons.win_rate:.2f}, upper bound {upper:.3f} < {floor:.2f}, n={n}"
    return "unsure", f"win rate {comparisons.win_rate:.2f}, lower bound {lower:.3f} ≤ {floor:.2f}, n={n}: hold"


def _not_finite(value: object, name: str = "") -> list[str]:
    """Names of the numbers that are infinite or not a number, anywhere in the report."""
    if isinstance(value, float) and not math.isfinite(value):
        return [name]
    if isinstance(value, Mapping):
        return [found for key, part in value.items() for found in _not_finite(part, f"{name}.{key}".lstrip("."))]
    if isinstance(value, list | tuple):
        return [found for at, part in enumerate(value) for found in _not_finite(part, f"{name}[{at}]")]
    return []


def _named(names: list[str]) -> str:
    more = f" and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else ""
    return ", ".join(names[:MAX_NAMED]) + more


def _policy(digest: str | None) -> str:
    return digest[:12] if digest else "the bare base"
