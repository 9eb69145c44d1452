"""Arms: stable for a conversation, rising for units, and not to be foreseen by whoever names a unit."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from deploy.rules.assignment import Arm, Assignment, Exposure, Routing, choose_arm, exposed, place
from deploy.rules.rollout import Approve, Serving, transition

SALT, OTHER_SALT = "5a" * 32, "17" * 32
CANARY = Routing(incumbent="i", candidate="c", rollout_id="r", share=0.25, salt=SALT)
units = st.text(max_size=20)
shares = st.floats(0, 1)


@given(units, shares, shares)
def test_a_rising_share_only_adds_units_to_the_candidate(unit: str, one: float, other: float) -> None:
    low, high = sorted((one, other))
    if choose_arm(unit, replace(CANARY, share=low), None) == "candidate":
        assert choose_arm(unit, replace(CANARY, share=high), None) == "candidate"


@given(units, shares, st.sampled_from(["candidate", "incumbent"]))
def test_a_stored_arm_stands_whatever_the_share(unit: str, share: float, arm: str) -> None:
    stored = Assignment("r", "t", "c", unit, arm, 0.05, 1)  # type: ignore[arg-type]
    assert choose_arm(unit, replace(CANARY, share=share), stored) == arm


@given(units)
def test_what_was_stored_in_another_rollout_counts_for_nothing(unit: str) -> None:
    stored = Assignment("earlier", "t", "c", unit, "candidate", 0.5, 1)
    assert choose_arm(unit, CANARY, stored) == choose_arm(unit, CANARY, None)


@given(units)
def test_no_share_and_the_whole_share_leave_no_doubt(unit: str) -> None:
    assert choose_arm(unit, replace(CANARY, share=0.0), None) == "incumbent"
    assert choose_arm(unit, replace(CANARY, share=1.0), None) == "candidate"


def test_the_share_of_units_is_the_share_asked_for_and_rollouts_are_independent() -> None:
    here = [choose_arm(f"u{n}", CANARY, None) == "candidate" for n in range(20_000)]
    assert 4_800 < sum(here) < 5_200
    for rollout_id, salt in (("another", SALT), ("r", OTHER_SALT), ("r", None), ("another", None)):
        there = [place(rollout_id, salt, f"u{n}") < 0.25 for n in range(20_000)]
        assert 1_130 < sum(a and b for a, b in zip(here, there, strict=True)) < 1_370


def test_a_rollout_from_before_there_were_salts_keeps_the_places_that_it_had() -> None:
    assert place("r", None, "u") == 0.5352143056273917
    assert [choose_arm("u", replace(CANARY, salt=None, share=share), None) for share in (0.535, 0.536)] == [
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
    stored = Assignment("r", "t", "c", "u", "candidate", 0.05, 1)
    assert choose_arm("u", halted, stored) == "incumbent"
    assert halted.policy("candidate") is None
    assert halted.policy("incumbent") is None


def test_without_a_canary_everybody_is_with_the_incumbent() -> None:
    routing = Routing(incumbent="i")
    assert choose_arm("u", routing, None) == "incumbent"
    assert routing.policy("candidate") == "i"
