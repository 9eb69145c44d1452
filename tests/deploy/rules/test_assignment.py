"""Arms: one per unit at a time, rising with the share, and not to be foreseen by whoever names a unit."""

from __future__ import annotations

import doctest
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from deploy.rules import assignment
from deploy.rules.assignment import (
    WINDOW_US,
    Arm,
    Conversation,
    Exposure,
    Routing,
    Shadow,
    enrol,
    exposed,
    place,
)
from deploy.rules.rollout import Approve, Serving, transition

SALT, OTHER_SALT = "5a" * 32, "17" * 32
CANARY = Routing(incumbent="i", candidate="c", rollout_id="r", share=0.25, salt=SALT)
units = st.text(max_size=20)
shares = st.floats(0, 1)


def arm(unit: str, routing: Routing) -> Arm:
    return enrol(Conversation("t", "c", unit, 1), routing, None).arm


def test_the_examples_in_the_docstrings_hold() -> None:
    result = doctest.testmod(assignment)
    assert (result.attempted, result.failed) == (4, 0)


@given(units, shares, shares)
def test_a_rising_share_only_adds_units_to_the_candidate(unit: str, one: float, other: float) -> None:
    low, high = sorted((one, other))
    if arm(unit, replace(CANARY, share=low)) == "candidate":
        assert arm(unit, replace(CANARY, share=high)) == "candidate"


@given(units, shares, shares, st.integers(0, 2 * WINDOW_US))
def test_nobody_moves_while_the_outcome_is_looked_at_and_who_was_the_candidates_never_does(
    unit: str, one: float, other: float, later_us: int
) -> None:
    low, high = sorted((one, other))
    first = enrol(Conversation("t", "c-1", unit, 7), replace(CANARY, share=low), None)
    assert (first.number, first.probability, first.at_us) == (0, low, 7)
    second = enrol(Conversation("t", "c-2", unit, 7 + later_us), replace(CANARY, share=high), first)
    if later_us < WINDOW_US or first.arm == "candidate" or low == high:
        assert second == first
    else:
        assert (second.number, second.share, second.at_us) == (1, high, 7 + later_us)


def test_of_the_incumbents_units_that_part_moves_that_is_written_down() -> None:
    raised, moved, probability = replace(CANARY, share=0.5), [], set()
    for n in range(20_000):
        first = enrol(Conversation("t", "c", f"u{n}", 0), CANARY, None)
        if first.arm == "incumbent":
            second = enrol(Conversation("t", "d", f"u{n}", WINDOW_US), raised, first)
            moved.append(second.arm == "candidate")
            probability.add(second.probability)
    assert probability == {(0.5 - 0.25) / (1 - 0.25)}
    assert 0.32 < sum(moved) / len(moved) < 0.347


@given(units)
def test_no_share_and_the_whole_share_leave_no_doubt(unit: str) -> None:
    assert arm(unit, replace(CANARY, share=0.0)) == "incumbent"
    assert arm(unit, replace(CANARY, share=1.0)) == "candidate"


def test_the_share_of_units_is_the_share_asked_for_and_rollouts_are_independent() -> None:
    here = [arm(f"u{n}", CANARY) == "candidate" for n in range(20_000)]
    assert 4_800 < sum(here) < 5_200
    for rollout_id, salt in (("another", SALT), ("r", OTHER_SALT), ("r", None), ("another", None)):
        there = [place(rollout_id, salt, f"t/u{n}") < 0.25 for n in range(20_000)]
        assert 1_130 < sum(a and b for a, b in zip(here, there, strict=True)) < 1_370


def test_a_rollout_from_before_there_were_salts_keeps_the_places_that_it_had() -> None:
    assert place("r", None, "u") == 0.5352143056273917
    at = place("r", None, "t/u")
    assert [arm("u", replace(CANARY, salt=None, share=share)) for share in (at, at + 1e-9)] == [
        "incumbent",
        "candidate",
    ]


def test_neither_a_routing_nor_an_approval_nor_a_rollout_shows_its_salt() -> None:
    serving, _ = transition(Serving(), Approve("c", "r", SALT), 1)
    shown = repr([CANARY, Approve("c", "r", SALT), serving, serving.routing])
    assert SALT not in shown
    assert serving.revision == transition(Serving(), Approve("c", "r", OTHER_SALT), 1)[0].revision


@given(st.sampled_from(["candidate", "incumbent"]), st.sampled_from(["r", "earlier", None]), st.booleans())
def test_an_arm_has_to_be_stored_only_for_a_conversation_that_is_new_to_the_rollout(
    arm: Arm, rollout_id: str | None, halted: bool
) -> None:
    routing = replace(CANARY, halted=halted)
    last = Exposure("whatever served it", arm, rollout_id, 0.05)
    known = exposed(routing, last)
    if halted:
        assert known == Exposure(None)
    elif rollout_id == "r":
        assert known == Exposure(routing.policy(arm), arm, "r", 0.05)
    else:
        assert known is None
    assert exposed(Routing(incumbent="i"), last) == Exposure("i")


def test_halted_serves_the_bare_base_to_everybody() -> None:
    halted = replace(CANARY, halted=True, share=1.0)
    assert halted.policy("candidate") is None
    assert halted.policy("incumbent") is None


def test_without_a_canary_everybody_is_with_the_incumbent() -> None:
    assert Routing(incumbent="i").policy("candidate") == "i"


def test_all_adapters_that_may_have_to_answer_are_named_the_most_wanted_first() -> None:
    shadow = Shadow("s", "b", 1, 1, 2, SALT)
    assert list(Routing("i", "c", "r", 0.5).adapters.items()) == [("incumbent", "i"), ("candidate", "c")]
    assert list(Routing("i", shadow=shadow).adapters.items()) == [("incumbent", "i"), ("shadow", "b")]
    assert Routing().adapters == {}
