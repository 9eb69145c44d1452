"""Which candidate comes into the shadow, and what ends that."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from deploy.errors import Refused
from deploy.rules.assignment import Shadow
from deploy.rules.reasons import SENTENCES
from deploy.rules.rollout import Rollout, Serving
from deploy.rules.shadow import AGAIN, LACKING, TOLD, Begin, End, Outcome, Waiting, check_start, step
from deploy.serving_settings import ShadowSettings

LACKS = Waiting("c" * 64, True, "hold", frozenset({"too_few_comparisons"}))
NEWER = replace(LACKS, digest="d" * 64)
IDLE = Serving()
ROLLOUT = Serving(rollout=Rollout("r", "e" * 64, "approved", 0.0, 1))
SETTINGS = ShadowSettings(min_s=100, max_s=1_000)
UNDER_WAY = Shadow("s-1", LACKS.digest, 1_000_000_000, 100, 1_000, "5a" * 32)


def now(*candidates: Waiting, serving: Serving = IDLE, settings: ShadowSettings = SETTINGS) -> Begin | End | None:
    """Where none is in the shadow."""
    return step(None, candidates, serving, settings, True, 1)


def later(seconds: float, serving: Serving = IDLE, settings: ShadowSettings = SETTINGS, **changes: Any) -> Any:
    """With one in it for so long, changed like this."""
    candidate = replace(LACKS, **changes)
    return step(UNDER_WAY, [candidate], serving, settings, True, UNDER_WAY.started_at_us + round(seconds * 1e6))


def test_the_newest_that_lacks_nothing_but_comparisons_comes_into_the_shadow() -> None:
    assert now(NEWER, LACKS) == Begin(NEWER.digest, "nothing but comparisons is missing")
    assert now() is None


@pytest.mark.parametrize(
    "other",
    [
        {"codes": frozenset({"too_few_comparisons", "rolled_back"})},
        {"codes": frozenset({"few_gate_labels"})},
        {"outcome": "pass", "codes": frozenset({"wins"})},
        {"outcome": "reject"},
        {"outcome": None},
        {"undecided": False},
    ],
)
def test_one_that_is_held_for_more_or_is_decided_gives_way_to_an_older_one(other: dict[str, Any]) -> None:
    assert now(replace(NEWER, **other), LACKS) == Begin(LACKS.digest, "nothing but comparisons is missing")


@pytest.mark.parametrize("ended", ["held", "stopped", "passed", "rejected"])
def test_one_that_had_its_time_does_not_come_again_by_itself_nor_an_older_one_instead(ended: Outcome) -> None:
    assert now(replace(NEWER, ended=ended), LACKS) is None


@pytest.mark.parametrize("ended", sorted(AGAIN))
def test_one_that_was_interrupted_comes_again(ended: Outcome) -> None:
    assert isinstance(now(replace(LACKS, ended=ended)), Begin)


@pytest.mark.parametrize("serving", [ROLLOUT, Serving(halted=True)])
def test_none_comes_beside_a_rollout_or_while_everything_is_halted(serving: Serving) -> None:
    assert now(LACKS, serving=serving) is None


def test_none_comes_where_nobody_is_to_be_copied_or_nothing_can_be_loaded_or_somebody_objects() -> None:
    assert now(LACKS, settings=replace_settings(share=0)) is None
    assert step(None, [LACKS], Serving(), SETTINGS, False, 1) is None
    assert now(replace(LACKS, objected=True)) is None


def replace_settings(**changes: Any) -> ShadowSettings:
    return SETTINGS.model_copy(update=changes)


def test_evidence_ends_it_at_its_shortest_and_a_rejection_at_once() -> None:
    passed = {"outcome": "pass", "codes": frozenset({"wins"})}
    assert later(99, **passed) is None
    assert later(100, **passed) == End("passed", "the gate passes it")
    assert later(1, outcome="reject") == End("rejected", "it was rejected")
    assert later(1, undecided=False) == End("rejected", "it was rejected")


def test_at_its_longest_it_ends_and_the_candidate_stays_held() -> None:
    assert later(999) is None
    assert later(1_000) == End("held", "there is not enough evidence after 0.0116 days")


def test_a_clock_that_went_back_by_more_than_machines_differ_ends_it_rather_than_never() -> None:
    assert later(-200) is None
    assert later(-400).outcome == "held"


def test_a_rollout_an_objection_the_settings_and_other_reasons_end_it() -> None:
    assert later(1, ROLLOUT) == End("overtaken", f"the rollout of {'e' * 12} began")
    assert later(1, objected=True).outcome == "objected"
    assert later(1, settings=replace_settings(share=0)).outcome == "off"
    more = later(1, codes=frozenset({"other_incumbent", "too_few_comparisons"}))
    assert more == End(
        "other_reasons", "it is held for more than comparisons now: other_incumbent, too_few_comparisons"
    )


def test_a_halt_does_not_end_it() -> None:
    assert later(1, Serving(halted=True)) is None


def test_a_person_may_start_one_that_was_stopped_and_is_told_why_not() -> None:
    check_start(replace(LACKS, ended="stopped"), Serving(), SETTINGS, True)
    for said, serving, one in (
        ("the rollout of eeeeeeeeeeee is under way", ROLLOUT, LACKS),
        ("everything is halted", Serving(halted=True), LACKS),
        ("somebody objects to cccccccccccc", Serving(), replace(LACKS, objected=True)),
        ("comparisons are not all that cccccccccccc lacks", Serving(), replace(LACKS, outcome="pass")),
    ):
        with pytest.raises(Refused, match=said):
            check_start(one, serving, SETTINGS, True)


def test_every_reason_that_more_comparisons_end_is_one_of_the_gate() -> None:
    assert set(SENTENCES) >= LACKING | TOLD
