"""Plans: alphas that add up, shares that rise, and a name for exactly what was declared."""

import dataclasses
import math

import pytest

from feedback.statistics.plan import DAY_US, HOUR_US, Metric, Plan, Stage

ERRORS = Metric("errors", relative_margin=0.5)
DOWN = Metric("thumbs down", margin=0.02)
REPLY = Metric("response", "signal")


def test_all_looks_for_harm_together_spend_the_whole_alpha() -> None:
    plan = Plan((ERRORS, DOWN, REPLY), slices=("lang:es", "lang:de"))
    watches = plan.watches("guardrail")
    assert len(watches) == 2 * 3 * 3
    assert sum(watch.alpha for watch in watches) == pytest.approx(0.01)
    assert sum(watch.alpha for watch in watches if watch.slice is None) == pytest.approx(0.005)
    assert sum(watch.alpha for watch in Plan((ERRORS,)).watches("guardrail")) == pytest.approx(0.01)


def test_a_look_says_what_it_looks_at() -> None:
    plan = Plan((ERRORS,), ages_us=(HOUR_US, 3 * DAY_US), slices=("lang:es",))
    assert [watch.name for watch in plan.watches("guardrail")] == [
        "errors at 1 h",
        "errors at 72 h",
        "errors at 1 h in lang:es",
        "errors at 72 h in lang:es",
    ]


def test_all_attempts_of_a_candidate_share_one_alpha() -> None:
    parts = [math.exp(-Plan((ERRORS,), attempt=attempt).log_promotion) for attempt in range(1, 40)]
    assert parts[:3] == pytest.approx([0.04, 0.005, 0.0025])
    assert sum(parts) <= 0.05


def test_a_plan_is_named_by_all_that_decides() -> None:
    plan = Plan((ERRORS, DOWN))
    assert plan.sha256 == Plan((ERRORS, DOWN)).sha256
    others = [
        dataclasses.replace(plan, metrics=(DOWN, ERRORS)),
        dataclasses.replace(plan, harm_alpha=0.02),
        dataclasses.replace(plan, grace_us=0),
        dataclasses.replace(plan, shifts=(1.0,)),
        dataclasses.replace(plan, attempt=2),
    ]
    assert len({plan.sha256, *(other.sha256 for other in others)}) == 6


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"metrics": ()}, "needs metrics"),
        ({"metrics": (ERRORS, ERRORS)}, "a name of its own"),
        ({"stages": (Stage(0.5, 0, 0, True), Stage(0.25, 0, 0))}, "shares of a plan rise"),
        ({"stages": (Stage(0.5, 0, 0, True), Stage(1.0, 0, 0))}, "shares of a plan rise"),
        ({"stages": (Stage(0.5, 0, 0),)}, "nothing could ever be promoted"),
        ({"stages": ()}, "shares of a plan rise"),
        ({"attempt": 0}, "attempts count from 1"),
        ({"ages_us": ()}, "needs an age"),
    ],
)
def test_a_plan_that_can_not_be_is_refused(change: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        dataclasses.replace(Plan((ERRORS,)), **change)  # type: ignore[arg-type]


def test_a_guardrail_needs_one_margin_and_a_signal_none() -> None:
    with pytest.raises(ValueError, match="one of the two"):
        Metric("errors")
    with pytest.raises(ValueError, match="one of the two"):
        Metric("errors", margin=0.1, relative_margin=0.1)
    for wrong in ({"margin": 1.0}, {"margin": -0.1}, {"relative_margin": 0.0}):
        with pytest.raises(ValueError, match=r"between 0 and 1|one of the two"):
            Metric("errors", **wrong)  # type: ignore[arg-type]
    assert REPLY.kind == "signal"
