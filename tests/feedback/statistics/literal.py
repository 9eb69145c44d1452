"""The procedures written out unit by unit, slowly, as the papers have them: referees of what computes them from counts."""

from __future__ import annotations

import math
from collections.abc import Sequence

Unit = tuple[int, int, int]
"""Stratum, arm, outcome."""


def harm(units: Sequence[Unit], p: Sequence[float], m: Sequence[float], shifts: Sequence[float]) -> float:
    """E, by betting on the difference of the arms: 1 + bet * (A/p - (1-A)/(1-p)) * (Y - mixed rate)."""
    wealth = []
    for shift in shifts:
        product = 1.0
        for stratum, arm, y in units:
            share, rate = p[stratum], m[stratum]
            worse = 1 / (1 + math.exp(-(math.log(rate / (1 - rate)) + shift)))
            mixed = share * worse + (1 - share) * rate
            bet = (worse - rate) * share * (1 - share) / (mixed * (1 - mixed))
            product *= 1 + bet * (arm / share - (1 - arm) / (1 - share)) * (y - mixed)
        wealth.append(product)
    return sum(wealth) / len(wealth)


def late_harm(
    units: Sequence[Unit], p: Sequence[float], m: Sequence[float], shifts: Sequence[float], stages: Sequence[int]
) -> float:
    """E with restarts: a half from the start, a quarter from the second stage, an eighth from the third …, the rest idle."""
    many = stages[-1] + 1
    parts = [
        0.5 ** (stage + 1) * harm([unit for unit in units if stages[unit[0]] >= stage], p, m, shifts)
        for stage in range(many)
    ]
    return sum(parts) + 0.5**many


def margin(
    units: Sequence[Unit], p: Sequence[float], m: Sequence[float], delta: float, fractions: Sequence[float]
) -> float:
    wealth = []
    for fraction in fractions:
        product = 1.0
        for stratum, arm, y in units:
            share, rate = p[stratum], m[stratum]
            largest = max((1 - rate) / share, rate / (1 - share))
            difference = (arm / share - (1 - arm) / (1 - share)) * (y - rate)
            product *= 1 + fraction / max(largest - delta, delta) * (delta - difference)
        wealth.append(product)
    return sum(wealth) / len(wealth)


def relative_margin(units: Sequence[Unit], p: Sequence[float], rho: float, ratios: Sequence[float]) -> float:
    wealth = []
    for ratio in ratios:
        product = 1.0
        for stratum, arm, y in units:
            if y:
                share = p[stratum]
                null = share * (1 + rho) / (share * (1 + rho) + 1 - share)
                bet = share * ratio / (share * ratio + 1 - share)
                product *= bet / null if arm else (1 - bet) / (1 - null)
        wealth.append(product)
    return sum(wealth) / len(wealth)


def sample_ratio(arms: Sequence[tuple[int, int]], p: Sequence[float], tilts: Sequence[float]) -> float:
    wealth = []
    for tilt in tilts:
        product = 1.0
        for stratum, arm in arms:
            share = p[stratum]
            tilted = share * math.exp(tilt) / (share * math.exp(tilt) + 1 - share)
            product *= tilted / share if arm else (1 - tilted) / (1 - share)
        wealth.append(product)
    return sum(wealth) / len(wealth)


def shadow(
    pairs: Sequence[tuple[float, float, int]], pi: float, weights: Sequence[float], bets: Sequence[float]
) -> float:
    """E of pairs (judge's, people's, whether people were asked), the centre being the mean of the judge's before."""
    wealth = []
    for weight in weights:
        for bet in bets:
            product, seen = 1.0, [0.5]
            for f, h, xi in pairs:
                centre = sum(seen) / len(seen)
                largest = max(0.5 / pi + weight * (1 / pi - 1), weight)
                value = weight * (f - centre) * (1 - xi / pi) + xi / pi * (h - 0.5)
                product *= 1 + bet / largest * value
                seen.append(f)
            wealth.append(product)
    return sum(wealth) / len(wealth)
