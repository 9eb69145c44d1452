"""For whom a candidate was asked: once each, up to the day's limit, whoever asks."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from deploy.control.shadows import begin_shadow, end_shadow, ended_shadows, read_shadow, tally_shadow
from deploy.control.store import Control
from deploy.rules.assignment import Shadow
from deploy.rules.rollout import Rollout
from feedback.statistics.plan import DAY_US
from tests.deploy.pairs import CANDIDATE, pair

SHADOW = Shadow("s-1", CANDIDATE, 1, 100, 1_000, "5a" * 32)
NOW_US = 100 * DAY_US


@pytest.fixture
def begun(any_control: Control) -> Control:
    """With a candidate in the shadow."""
    begin(any_control)
    return any_control


def begin(control: Control, shadow: Shadow = SHADOW) -> None:
    with control.change() as tx:
        begin_shadow(tx.connection, shadow)


def test_each_unit_is_asked_for_once_whatever_came_of_it(begun: Control) -> None:
    shadows = begun.shadows
    assert shadows.ask(SHADOW, "t", "ann", 10, NOW_US) == "asked"
    assert shadows.ask(SHADOW, "t", "ann", 10, NOW_US) == "asked_before"
    assert shadows.ask(SHADOW, "other", "ann", 10, NOW_US) == "asked"
    shadows.failed(CANDIDATE, "t", "ann", "too_slow")
    assert shadows.ask(SHADOW, "t", "ann", 10, NOW_US) == "asked_before"


def test_who_was_not_asked_after_all_may_be_asked_another_time(begun: Control) -> None:
    begun.shadows.ask(SHADOW, "t", "ann", 10, NOW_US)
    begun.shadows.forget(CANDIDATE, "t", "ann")
    assert begun.shadows.ask(SHADOW, "t", "ann", 10, NOW_US) == "asked"


def test_the_limit_is_of_a_day_and_counts_what_failed(begun: Control) -> None:
    for n in range(3):
        assert begun.shadows.ask(SHADOW, "t", f"u-{n}", 3, NOW_US + n) == "asked"
        begun.shadows.failed(CANDIDATE, "t", f"u-{n}", "broke")
    assert begun.shadows.ask(SHADOW, "t", "late", 3, NOW_US + DAY_US - 1) == "daily_cap"
    assert begun.shadows.ask(SHADOW, "t", "late", 3, NOW_US + DAY_US) == "asked"


def test_gateways_that_ask_at_once_pass_no_limit_and_ask_for_nobody_twice(begun: Control) -> None:
    def ask(n: int) -> str:
        return begun.shadows.ask(SHADOW, "t", f"u-{n % 10}", 7, NOW_US)

    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(ask, range(40)))
    assert answers.count("asked") == 7
    assert set(answers) <= {"asked", "asked_before", "daily_cap"}


def test_once_it_is_over_nobody_is_asked_for_any_more(begun: Control) -> None:
    with begun.change() as tx:
        end_shadow(tx.connection, SHADOW, "stopped", "enough seen", 5)
        assert read_shadow(tx.connection) is None
        (ended,) = ended_shadows(tx.connection, [CANDIDATE, "d" * 64]).values()
    assert (ended.candidate, ended.outcome, ended.why, ended.ended_at_us) == (CANDIDATE, "stopped", "enough seen", 5)
    assert begun.shadows.ask(SHADOW, "t", "ann", 10, NOW_US) == "over"


def test_one_that_comes_again_asks_nobody_again_and_its_last_end_counts(begun: Control) -> None:
    begun.shadows.ask(SHADOW, "t", "ann", 10, NOW_US)
    again = replace(SHADOW, id="s-2", started_at_us=6)
    with begun.change() as tx:
        end_shadow(tx.connection, SHADOW, "overtaken", "a rollout began", 5)
        begin_shadow(tx.connection, again)
    assert begun.shadows.ask(again, "t", "ann", 10, NOW_US) == "asked_before"
    with begun.change() as tx:
        end_shadow(tx.connection, again, "held", "not enough", 9)
        assert ended_shadows(tx.connection, [CANDIDATE])[CANDIDATE].outcome == "held"


def test_the_tally_counts_pairs_of_the_shadow_alone_and_failures_by_reason(begun: Control) -> None:
    begun.comparisons.add([replace(pair(n), origin="shadow") for n in (1, 2)] + [pair(3)])
    for n, why in enumerate(["too_slow", "broke", "too_slow"]):
        begun.shadows.ask(SHADOW, "t", f"u-{n}", 10, NOW_US)
        begun.shadows.failed(CANDIDATE, "t", f"u-{n}", why)
    begun.shadows.ask(SHADOW, "t", "under way", 10, NOW_US)
    with begun.read() as tx:
        tally = tally_shadow(tx.connection, CANDIDATE)
    assert (tally.pairs, tally.last_at_us, tally.failures) == (2, 2, {"broke": 1, "too_slow": 2})


def test_the_routing_names_it_but_not_beside_a_rollout_nor_while_everything_is_halted(begun: Control) -> None:
    assert begun.routing().shadow == SHADOW
    assert SHADOW.salt not in repr(begun.routing())
    with begun.change() as tx:
        serving = tx.serving()
        tx.save_serving(serving, halted := replace(serving, halted=True), 1)
    assert begun.routing().shadow is None
    with begun.change() as tx:
        tx.save_serving(halted, replace(serving, rollout=Rollout("r", "e" * 64, "approved", 0.0, 1)), 1)
    assert begun.routing().shadow is None
