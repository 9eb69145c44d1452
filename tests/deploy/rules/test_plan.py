"""The plan of a rollout: its stages are the shares, evidence is gathered where both arms have people."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from deploy.rules.assignment import WINDOW_US
from deploy.rules.plan import EXPECTED, plan_of
from deploy.settings import RolloutSettings


@pytest.mark.parametrize(
    ("shares", "proof"),
    [((0.05, 0.25, 0.5, 0.95, 1.0), 0.5), ((0.05, 1.0), 0.05), ((0.9, 1.0), 0.9), ((0.1, 0.8, 1.0), 0.8)],
)
def test_evidence_is_wanted_of_the_last_share_that_leaves_enough_to_compare_with(
    shares: tuple[float, ...], proof: float
) -> None:
    plan = plan_of(RolloutSettings(shares=shares), 1)
    assert plan is not None
    assert [stage.share for stage in plan.stages] == list(shares[:-1])
    assert [stage.share for stage in plan.stages if stage.evidence] == [proof]


def test_beyond_the_evidence_a_window_is_enough() -> None:
    plan = plan_of(RolloutSettings(), 2)
    assert plan is not None
    assert [stage.minimum_us for stage in plan.stages[:3]] == [4 * 86_400_000_000] * 3
    assert plan.stages[3].minimum_us == WINDOW_US == plan.ages_us[-1] + plan.grace_us
    assert plan.attempt == 2


def test_to_everybody_at_once_nothing_can_be_compared() -> None:
    assert plan_of(RolloutSettings(shares=(1.0,)), 1) is None


def test_every_metric_has_a_rate_to_begin_with() -> None:
    plan = plan_of(RolloutSettings(), 1)
    assert plan is not None
    assert {metric.name for metric in plan.metrics} == EXPECTED.keys()


@pytest.mark.parametrize("name", ["", "es", ":es", "locale:"])
def test_a_group_is_a_locale_or_a_tag_with_its_value(name: str) -> None:
    with pytest.raises(ValidationError, match="names no group"):
        RolloutSettings(slices=(name,))


def test_a_group_that_is_named_twice_is_one() -> None:
    assert RolloutSettings(slices=("locale:es", "plan:free", "locale:es")).slices == ("locale:es", "plan:free")
