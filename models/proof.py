"""Whether an adapter that an engine says it loaded is the one that was trained. Pure functions over log-probabilities.

A record, made at training in float32, holds for each token of the probes' replies what base and candidate give it, and how
much of the difference each part of the adapter (a layer, a kind of module) makes. An engine scores the same tokens with its
base and with the adapter. The difference of the two, less the recorded one, must be noise of the size that the engine's own
base shows, and must not contain any part's effect, which it would where that part was not applied, or was another's.

A log-probability's rounding error grows with 1 - p, p the token's probability: everything is measured in that unit, in
which tokens count alike (bfloat16: kurtosis 4 in place of 7). A part with an effect of P standard errors is noticed missing
as surely as a normal variable stays above 5 - P: from P = 10 on it counts as told apart, below it is named as `blind`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Scores = Sequence[Sequence[float]]
"""Log-probabilities, nats: of each probe's reply, token by token."""

UNIT = 1e-5
"""An effect is kept as a whole number of these nats."""
WHOLE = "the adapter"
_CERTAIN = 0.01  # added to 1 - p: the rounding error of a token that is certain
_NOISE = 3.0  # times the noise of bfloat16: what a base may differ by
_LEAST = 1e-9  # no noise at all is none that can be divided by
_RESIDUAL = 1.5  # right adapters leave 0.84 to 1.03 times the base's noise


class Limits(Struct, frozen=True):
    """What is held against a candidate's scores; derived from its record, and kept with it."""

    noise: float
    """The most that the engine's base may differ from the record by, rms over tokens, nats per 1 - p."""
    residual: float
    """The most that may remain unexplained, in units of the engine's noise, rms over tokens."""
    deviation: float = 5.0
    """Standard errors by which a part's effect may be off."""
    power: float = 10.0
    """Standard errors that an effect must have to be told from nothing."""
    floor: float = 0.01
    """Noise below this share of the adapter's whole effect is taken to be as large: float32 is not held to its last digit."""


class ScoredProbe(Struct, frozen=True):
    """Token ids of a prompt and a reply, and the log-probability of each token of the reply, nats."""

    prompt: list[int]
    reply: list[int]
    base: list[float]
    candidate: list[float]


class Record(Struct, frozen=True):
    """What was measured of one candidate at its training."""

    digest: str
    base_name: str
    base_revision: str
    probes: list[ScoredProbe]
    effects: dict[str, list[int]]
    """By part: the candidate's log-probability less that without this part, token by token over all probes, in `UNIT`s."""
    noise: float
    """What bfloat16 does to the base: rms over tokens, nats per 1 - p."""
    limits: Limits
    format: int = 1


@dataclass(frozen=True)
class Proven:
    """It is the one. `blind` names the parts that could not be told from nothing here, with the effect (rms, nats a token)
    from which on they could."""

    strength: float
    """1 where the whole adapter is applied as it was trained."""
    deviation: float
    """Of the part that is furthest off, standard errors."""
    residual: float
    """What is left, in units of the engine's noise."""
    blind: Mapping[str, float]


@dataclass(frozen=True)
class NotProven:
    """It must not be served; the reason is a sentence with its figures."""

    reason: str


def limits_of(probes: Sequence[ScoredProbe], base: Scores, candidate: Scores) -> tuple[float, Limits]:
    """The base's noise and the limits, from the same probes scored again in bfloat16."""
    known = _Known(probes)
    low, high = _flat(base), _flat(candidate)
    noise = max(_rms((low - known.base) / known.base_unit), _LEAST)
    ratio = _rms((high - low - known.difference) / known.unit) / noise
    return noise, Limits(noise=_NOISE * noise, residual=_RESIDUAL * max(1.0, ratio))


def prove(record: Record, base: Scores, candidate: Scores) -> Proven | NotProven:
    """Whether `candidate`, scored on the engine that scored `base`, is the record's candidate."""
    if wrong := base_differs(record, base) or _unusable(record, candidate):
        return wrong
    known = _Known(record.probes)
    noise = _noise(record, known, _flat(base))
    left = (_flat(candidate) - _flat(base) - known.difference) / known.unit / noise
    parts = {name: _Part.of(effect / known.unit / noise, left) for name, effect in _effects(record, known).items()}
    if (whole := parts[WHOLE]).power < record.limits.power:
        return _too_little(whole, record.limits)
    name, worst = max(parts.items(), key=lambda item: abs(item[1].deviation))
    if not abs(worst.deviation) <= record.limits.deviation:
        return _not_applied(name, worst, record.limits)
    if not _rms(left) <= record.limits.residual:
        return NotProven(
            f"the adapter does not do what it did at training: {_rms(left):.2f} times the engine's noise is left beside "
            f"the recorded differences, at most {record.limits.residual:.2f} may be"
        )
    return Proven(1 - whole.missing, abs(worst.deviation), _rms(left), _blind(record, known, parts))


def base_differs(record: Record, base: Scores) -> NotProven | None:
    """Why what answered as the base is not the record's base, alone; None where it is."""
    if wrong := _unusable(record, base):
        return wrong
    known, limit = _Known(record.probes), record.limits.noise
    found = _flat(base) - known.base
    if not (seen := _rms(found / known.base_unit)) <= limit:
        return NotProven(
            f"the engine's base is not the base of the training, or something else answers in its place: it differs from "
            f"the record by {_rms(found):.4f} nats a token, {seen / limit:.1f} times as much as rounding can do"
        )
    noise = _noise(record, known, _flat(base))
    whole = _Part.of(known.difference / known.unit / noise, -found / known.unit / noise)
    if not abs(whole.deviation) <= record.limits.deviation:
        return NotProven(
            f"the engine's base answers with {whole.missing:.2f} of the adapter's effect in it: adapters leak into the base"
        )
    return None


def powers(record: Record) -> dict[str, float]:
    """By part: its effect in standard errors of an engine in bfloat16. Below `limits.power` it can't be told from nothing."""
    known = _Known(record.probes)
    noise = max(record.noise, record.limits.floor * _rms(known.difference / known.unit))
    return {name: _norm(effect / known.unit / noise) for name, effect in _effects(record, known).items()}


def damage(record: Record) -> str | None:
    """What is wrong with a record that was read from a file, as a part of a sentence; None where nothing is."""
    count = sum(len(probe.reply) for probe in record.probes)
    if not count or any(len(p.base) != len(p.reply) or len(p.candidate) != len(p.reply) for p in record.probes):
        return "its probes and their log-probabilities differ in number, or there are none"
    if any(len(effect) != count for effect in record.effects.values()):
        return f"an effect is not of {count} tokens"
    limits = record.limits
    numbers = (record.noise, limits.noise, limits.residual, limits.deviation, limits.power, limits.floor)
    scores = [score for probe in record.probes for score in (*probe.base, *probe.candidate)]
    if not all(map(math.isfinite, (*numbers, *scores))) or min(numbers) <= 0 or max(scores) > 0:
        return "its numbers are not those of log-probabilities"
    return None


class _Known:
    """The record's numbers over all tokens, and the unit of each token's noise."""

    def __init__(self, probes: Sequence[ScoredProbe]) -> None:
        self.base, candidate = _flat([p.base for p in probes]), _flat([p.candidate for p in probes])
        self.difference = candidate - self.base
        self.base_unit = _spread(self.base)
        self.unit = np.hypot(self.base_unit, _spread(candidate))


@dataclass(frozen=True)
class _Part:
    """One part's effect beside what is left: `missing` is the share of it that is not there."""

    power: float
    missing: float

    @property
    def deviation(self) -> float:
        return self.missing * self.power

    @classmethod
    def of(cls, effect: Floats, left: Floats) -> _Part:
        power = _norm(effect)
        return cls(power, -float(left @ effect) / power**2 if power else 0.0)


def _effects(record: Record, known: _Known) -> dict[str, Floats]:
    return {WHOLE: known.difference} | {
        name: np.asarray(effect, np.float64) * UNIT for name, effect in record.effects.items()
    }


def _noise(record: Record, known: _Known, base: Floats) -> float:
    seen = _rms((base - known.base) / known.base_unit)
    return max(seen, record.limits.floor * _rms(known.difference / known.unit), _LEAST)


def _unusable(record: Record, scores: Scores) -> NotProven | None:
    wanted, found = [len(probe.reply) for probe in record.probes], [len(part) for part in scores]
    if wanted != found:
        return NotProven(
            f"the engine scored {sum(found)} tokens of {len(found)} probes, {sum(wanted)} of {len(wanted)} were asked"
        )
    bad = int(np.sum(~np.isfinite(_flat(scores))))
    return NotProven(f"the engine gave no number for {bad} of {sum(wanted)} probe tokens") if bad else None


def _too_little(whole: _Part, limits: Limits) -> NotProven:
    return NotProven(
        f"the adapter changes too little to be told from the base on this engine: its effect is {whole.power:.1f} standard "
        f"errors, {limits.power:.0f} are needed"
    )


def _not_applied(name: str, part: _Part, limits: Limits) -> NotProven:
    how = (
        f"{part.missing:.2f} of its effect is missing"
        if part.missing > 0
        else f"its effect is there {1 - part.missing:.2f} times"
    )
    return NotProven(
        f"{name} is not applied as it was trained: {how}, {abs(part.deviation):.1f} standard errors from what was recorded, "
        f"at most {limits.deviation:.0f} may be"
    )


def _blind(record: Record, known: _Known, parts: Mapping[str, _Part]) -> dict[str, float]:
    effects, needed = _effects(record, known), record.limits.power
    return {name: _rms(effects[name]) * needed / max(p.power, _LEAST) for name, p in parts.items() if p.power < needed}


def _spread(logprobs: Floats) -> Floats:
    return np.hypot(-np.expm1(logprobs), _CERTAIN)


def _flat(scores: Scores) -> Floats:
    return np.fromiter((score for part in scores for score in part), np.float64)


def _rms(values: NDArray[Any]) -> float:
    return math.sqrt(float(np.mean(np.square(values))))


def _norm(values: NDArray[Any]) -> float:
    return math.sqrt(float(np.sum(np.square(values))))
