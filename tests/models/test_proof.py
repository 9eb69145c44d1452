"""Whether a candidate's scores prove it: rightly, for every way of being another adapter, and for every size of noise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from models.proof import (
    UNIT,
    WHOLE,
    Limits,
    NotProven,
    Proven,
    Record,
    ScoredProbe,
    base_differs,
    damage,
    limits_of,
    powers,
    prove,
)

Floats = NDArray[np.float64]
COUNT, PROBES = 480, 20
NOISE = 0.02  # per 1 - p: what bfloat16 does to `tiny`
LAYERS = ("layer 0", "layer 1", "layer 2", "layer 3")


def spread(logprobs: Floats) -> Floats:
    return np.asarray(np.hypot(-np.expm1(logprobs), 0.01))


def cut(values: Floats) -> list[list[float]]:
    return [part.tolist() for part in np.split(values, PROBES)]


@dataclass
class World:
    """A record, the numbers behind it, and engines that are more or less exact."""

    seed: int = 0
    size: float = 0.06
    """Effect of each layer, rms, per 1 - p."""

    def __post_init__(self) -> None:
        chance = np.random.default_rng(self.seed)
        self.base = -chance.exponential(1.2, COUNT)
        unit = spread(self.base)
        self.effects = {name: self.size * chance.standard_normal(COUNT) * unit for name in LAYERS}
        self.candidate = np.minimum(self.base + sum(self.effects.values()), 0.0)
        self.unit = np.hypot(unit, spread(self.candidate))
        self.record = self.make()

    def make(self) -> Record:
        scores = zip(cut(self.base), cut(self.candidate), strict=True)
        probes = [ScoredProbe([1, 2], list(range(len(b))), b, c) for b, c in scores]
        noise, limits = limits_of(probes, *self.scores(noise=NOISE, seed=99))
        effects = {name: [round(x / UNIT) for x in effect] for name, effect in self.effects.items()}
        return Record("d" * 64, "tiny", "r", probes, effects, noise, limits)

    def scores(
        self, difference: Floats | None = None, noise: float = NOISE, seed: int = 1, base: Floats | None = None
    ) -> tuple[Any, Any]:
        """What an engine with this noise, on which the adapter makes this difference, says of base and candidate."""
        chance = np.random.default_rng([self.seed, seed])
        before = self.base if base is None else base
        after = before + (self.candidate - self.base if difference is None else difference)
        shaken = [
            x + noise * chance.standard_normal(COUNT) * spread(of)
            for x, of in ((before, self.base), (after, self.candidate))
        ]
        return cut(shaken[0]), cut(shaken[1])

    @property
    def difference(self) -> Floats:
        return self.candidate - self.base


WORLD = World()
seeds = st.integers(0, 1_000_000)


def reason(world: World, *scores: Any) -> str:
    found = prove(world.record, *scores)
    assert isinstance(found, NotProven), found
    return found.reason


@settings(max_examples=200)
@given(seeds, st.floats(1e-7, NOISE * 1.5))
def test_the_right_adapter_is_proven_on_an_engine_of_any_noise_up_to_bfloat16s(seed: int, noise: float) -> None:
    found = prove(WORLD.record, *WORLD.scores(noise=noise, seed=seed))
    assert isinstance(found, Proven)
    assert found.strength == pytest.approx(1.0, abs=0.1)
    assert found.deviation < WORLD.record.limits.deviation
    assert found.residual < WORLD.record.limits.residual
    assert not found.blind


@settings(max_examples=200)
@given(seeds, st.sampled_from(LAYERS), st.floats(0.0, NOISE))
def test_an_adapter_with_a_layer_unapplied_is_refused_and_the_layer_is_named(
    seed: int, layer: str, noise: float
) -> None:
    scores = WORLD.scores(WORLD.difference - WORLD.effects[layer], noise, seed)
    assert reason(WORLD, *scores).startswith(f"{layer} is not applied as it was trained")


@settings(max_examples=100)
@given(seeds, st.floats(0.0, NOISE), st.one_of(st.floats(-3, 0.85), st.floats(1.15, 5)))
def test_an_adapter_of_another_strength_is_refused(seed: int, noise: float, strength: float) -> None:
    reason(WORLD, *WORLD.scores(strength * WORLD.difference, noise, seed))


@settings(max_examples=100)
@given(seeds, st.floats(0.0, NOISE), st.floats(0.0, 0.9))
def test_another_adapter_is_refused_however_much_it_has_in_common(seed: int, noise: float, shared: float) -> None:
    other = World(seed + 1)
    mixed = shared * WORLD.difference + np.sqrt(1 - shared**2) * (other.difference / other.unit) * WORLD.unit
    reason(WORLD, *WORLD.scores(mixed, noise, seed))


@given(seeds)
def test_what_is_told_apart_on_bfloat16_is_refused_there_when_it_is_missing(seed: int) -> None:
    """The promise of `powers`: at 10 standard errors, a miss is as rare as five standard deviations."""
    world = World(seed, size=0.012)
    told = powers(world.record)
    layer = max(LAYERS, key=lambda name: told[name])
    scores = world.scores(world.difference - world.effects[layer], NOISE, seed)
    assert told[layer] < world.record.limits.power or isinstance(prove(world.record, *scores), NotProven)


def test_a_layer_too_small_to_be_told_from_nothing_is_named_with_the_size_from_which_it_could() -> None:
    world = World(size=0.06)
    world.effects["layer 3"] = world.effects["layer 3"] / 50
    world.candidate = np.minimum(world.base + sum(world.effects.values()), 0.0)
    world.record = world.make()
    found = prove(world.record, *world.scores())
    assert isinstance(found, Proven)
    assert list(found.blind) == ["layer 3"]
    effect = float(np.sqrt(np.mean(world.effects["layer 3"] ** 2)))
    assert 2 * effect < found.blind["layer 3"] < 50 * effect
    exact = prove(world.record, *world.scores(noise=1e-7))
    assert isinstance(exact, Proven)
    assert not exact.blind


def test_an_adapter_that_is_not_there_at_all_is_refused() -> None:
    assert "0.99 of its effect is missing" in reason(WORLD, *WORLD.scores(np.zeros(COUNT), seed=1))


def test_a_layer_that_is_applied_twice_is_refused_and_named() -> None:
    twice = reason(WORLD, *WORLD.scores(WORLD.difference + WORLD.effects["layer 2"]))
    assert twice.startswith("layer 2 is not applied as it was trained: its effect is there 2.0")


def test_an_adapter_that_changes_too_little_is_never_proven() -> None:
    world = World(size=0.001)
    assert "too little to be told from the base" in reason(world, *world.scores())


def test_what_no_part_explains_is_refused_too() -> None:
    chance = np.random.default_rng(5)
    parts = np.stack([effect / WORLD.unit for effect in WORLD.effects.values()])
    noise = chance.standard_normal(COUNT) * 2.5 * NOISE
    noise -= parts.T @ np.linalg.lstsq(parts.T, noise, rcond=None)[0]  # nothing of it along any layer
    assert "times the engine's noise is left" in reason(WORLD, *WORLD.scores(WORLD.difference + noise * WORLD.unit))


def test_an_exact_engine_is_not_held_to_its_last_digit() -> None:
    """A candidate's float32 may be noisier than its base's, which here is exact to a digit."""
    base, _ = WORLD.scores(noise=1e-8)
    _, candidate = WORLD.scores(noise=1e-4, seed=2)
    assert isinstance(prove(WORLD.record, base, candidate), Proven)


def test_the_base_of_another_training_is_refused_though_the_difference_is_right() -> None:
    other = WORLD.base + 5 * NOISE * spread(WORLD.base) * np.random.default_rng(3).standard_normal(COUNT)
    scores = WORLD.scores(base=other)
    assert "the engine's base is not the base of the training" in reason(WORLD, *scores)
    assert base_differs(WORLD.record, scores[0]) is not None


@settings(max_examples=50)
@given(seeds, st.floats(0.0, NOISE), st.sampled_from((1.0, 0.5)))
def test_a_base_that_an_adapter_answers_for_is_no_base(seed: int, noise: float, share: float) -> None:
    leaky = WORLD.scores(base=WORLD.base + share * WORLD.difference, noise=noise, seed=seed)[0]
    assert isinstance(base_differs(WORLD.record, leaky), NotProven)
    assert base_differs(WORLD.record, WORLD.scores(noise=noise, seed=seed)[0]) is None


def test_a_leak_within_the_bases_noise_is_found_by_its_direction() -> None:
    world = World(size=0.02)
    leaky = world.scores(base=world.base + 0.8 * world.difference)[0]
    found = base_differs(world.record, leaky)
    assert found is not None
    assert "adapters leak into the base" in found.reason


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_scores_that_are_no_numbers_prove_nothing(value: float) -> None:
    base, candidate = WORLD.scores()
    candidate[3][0] = value
    assert "no number for 1 of 480" in reason(WORLD, base, candidate)
    assert "no number for 1 of 480" in reason(WORLD, candidate, base)


def test_scores_of_other_tokens_prove_nothing() -> None:
    base, candidate = WORLD.scores()
    assert "scored 456 tokens of 19 probes, 480 of 20" in reason(WORLD, base, candidate[:-1])
    assert "scored 479 tokens" in reason(WORLD, [*base[:-1], base[-1][1:]], candidate)
    assert "0 tokens of 0 probes" in reason(WORLD, [], [])


def test_the_right_scores_in_the_wrong_places_prove_nothing() -> None:
    base, candidate = WORLD.scores(noise=1e-6)
    reason(WORLD, base[::-1], candidate[::-1])
    assert WHOLE in reason(WORLD, base, [list(b) for b in base])


def test_limits_come_from_the_candidates_own_noise() -> None:
    calm, shaken = (limits_of(WORLD.record.probes, *WORLD.scores(noise=noise))[1] for noise in (0.01, 0.02))
    assert shaken.noise == pytest.approx(2 * calm.noise)
    assert calm.residual == pytest.approx(1.5, rel=0.2)
    base, candidate = WORLD.scores(noise=0.01)[0], WORLD.scores(noise=0.04)[1]
    assert limits_of(WORLD.record.probes, base, candidate)[1].residual > 2 * calm.residual


def test_noise_that_is_none_at_all_gives_limits_that_can_be_kept() -> None:
    noise, limits = limits_of(WORLD.record.probes, *WORLD.scores(noise=0.0))
    assert damage(msgspec.structs.replace(WORLD.record, noise=noise, limits=limits)) is None


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"probes": []}, "or there are none"),
        ({"probes": [ScoredProbe([1], [1, 2], [-1.0], [-1.0, -1.0])]}, "differ in number"),
        ({"probes": [ScoredProbe([1], [1, 2], [-1.0, -1.0], [-1.0])]}, "differ in number"),
        ({"effects": {"layer 0": [1, 2]}}, "an effect is not of 480 tokens"),
        ({"noise": 0.0}, "numbers"),
        ({"noise": float("nan")}, "numbers"),
        ({"limits": Limits(noise=float("inf"), residual=1.5)}, "numbers"),
        ({"limits": Limits(noise=0.1, residual=1.5, deviation=-1.0)}, "numbers"),
        ({"probes": [ScoredProbe([1], [1], [0.5], [-1.0])], "effects": {}}, "numbers"),
    ],
)
def test_a_damaged_record_is_known_for_one(changes: dict[str, Any], part: str) -> None:
    assert damage(WORLD.record) is None
    assert part in (damage(msgspec.structs.replace(WORLD.record, **changes)) or "")
