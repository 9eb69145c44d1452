"""What to type next fits the state: no command is proposed that would be refused."""

from __future__ import annotations

import doctest
import re
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.errors import Refused
from deploy.rules import next_step as module
from deploy.rules.next_step import Lacks, Look, Situation, next_step
from deploy.rules.rollout import (
    Approve,
    CandidateState,
    Command,
    Halt,
    Pause,
    Promote,
    Resume,
    Rollback,
    Serving,
    transition,
)

A, B = "a" * 64, "b" * 64
SHARES = (0.05, 1.0)
STATES = [state for state in get_args(CandidateState) if state != "halted"]


def after(*commands: Command) -> Serving:
    serving = Serving()
    for command in commands:
        serving, _ = transition(serving, command, 0)
    return serving


PROMOTE = Promote(SHARES, expires_us=10**12)
FULL = after(Approve(A, "r"), PROMOTE, PROMOTE)
CANARY = after(Approve(A, "r"), PROMOTE)
SERVING = {
    "fresh": Serving(),
    "approved": after(Approve(A, "r")),
    "canary": CANARY,
    "paused": after(Approve(A, "r"), PROMOTE, Pause()),
    "full": FULL,
    "halted": after(Approve(A, "r"), PROMOTE, Halt()),
    "halted at rest": after(Halt()),
}


@pytest.mark.parametrize("looked", [None, Look(B, "held", "hold", "5" * 64), Look(A, "canary")])
@pytest.mark.parametrize("state", ["canary", "paused"])
def test_of_users_that_did_not_come_as_they_were_drawn_nothing_is_given_a_next_share(
    state: str, looked: Look | None
) -> None:
    assert proposed(next_step(Situation(SERVING[state], looked, mismatched=True))) == {"rollback"}


@pytest.mark.parametrize("looked", [None, Look(B, "held", "hold", "5" * 64), Look(A, "canary")])
def test_while_its_evidence_is_still_to_come_no_next_share_is_proposed(looked: Look | None) -> None:
    line = next_step(Situation(CANARY, looked, undecided=True))
    assert line.startswith("nothing until its evidence is there")
    assert proposed(line) == {"pause", "rollback"}
    for state in ("approved", "paused", "halted"):
        assert next_step(Situation(SERVING[state], undecided=True)) == next_step(Situation(SERVING[state]))


def test_the_examples_in_the_docstrings_hold() -> None:
    assert doctest.testmod(module).failed == 0


def proposed(line: str) -> set[str]:
    return set(re.findall(r"trimtab ([a-z]+(?: --incumbent)?)", line))


@pytest.mark.parametrize("serving", SERVING.values(), ids=SERVING)
@given(
    state=st.sampled_from(STATES),
    outcome=st.sampled_from([None, "pass", "hold", "reject"]),
    lacks=st.none()
    | st.builds(Lacks, st.integers(0, 3), st.integers(0, 3), st.sampled_from(["under way", "may begin", "off"])),
    objected=st.booleans(),
    looking=st.booleans(),
    waiting=st.booleans(),
    request=st.booleans(),
)
def test_nothing_is_proposed_that_would_be_refused(
    serving: Serving,
    state: CandidateState,
    outcome: str | None,
    lacks: Lacks | None,
    objected: bool,
    looking: bool,
    waiting: bool,
    request: bool,
) -> None:
    look = Look(B, state, outcome, "5" * 64, lacks, objected)
    held = Look(B, "held", "hold", "5" * 64)
    line = next_step(
        Situation(serving, look if looking else None, held if waiting else None, "training-1" if request else None)
    )
    commands: dict[str, Command] = {
        "promote": PROMOTE,
        "pause": Pause(),
        "resume": Resume(),
        "rollback": Rollback(),
        "rollback --incumbent": Rollback(incumbent=True),
        "approve": Approve(B, "s"),
    }
    for name in proposed(line) & commands.keys():
        if name == "approve" and "training" in line:
            continue
        assert not (name == "approve" and objected), line
        try:
            transition(serving, commands[name], 1)
        except Refused as refused:
            pytest.fail(f"{line!r} would be refused: {refused}")


def test_a_list_proposes_no_list() -> None:
    assert "candidates" not in proposed(next_step(Situation(Serving())))


def test_a_paused_rollout_is_resumed_or_rolled_back() -> None:
    assert proposed(next_step(Situation(SERVING["paused"]))) == {"resume", "rollback"}


def test_a_candidate_that_was_rolled_back_is_not_proposed_again() -> None:
    assert (
        next_step(Situation(Serving(), Look(B, "rolled_back", "hold", "5" * 64))) == "trimtab train makes another one"
    )


@pytest.mark.parametrize("serving", SERVING.values(), ids=SERVING)
def test_every_rollout_command_carries_the_state_that_it_was_meant_for(serving: Serving) -> None:
    """Typed twice, `resume` would lift the pause beneath the halt as well."""
    looks = [None, *(Look(digest, "full") for digest in [serving.incumbent] if digest is not None)]
    for look in looks:
        line = next_step(Situation(serving, look))
        meant = re.findall(r"trimtab (?:promote|pause|resume|rollback)\b(?: --incumbent)?( --expect [0-9a-f]+)?", line)
        assert set(meant) <= {f" --expect {serving.revision}"}, line


@pytest.mark.parametrize(
    ("lacks", "said"),
    [
        (Lacks(people=32, judge=5, shadow="under way"), f"trimtab label: 32 pairs wait for people (then trimtab show {B[:12]})"),
        (Lacks(people=1), f"trimtab label: 1 pair waits for people (then trimtab show {B[:12]})"),
        (Lacks(people=2, second=2), f"trimtab label: 2 pairs wait for another person than has labelled (then trimtab show {B[:12]})"),
        (Lacks(judge=7, shadow="under way"), f"nothing: 7 pairs wait for the judge (then trimtab show {B[:12]})"),
        (Lacks(shadow="under way"), f"nothing: it answers a copy of live turns, to be compared (then trimtab show {B[:12]})"),
        (
            Lacks(shadow="may begin"),
            f'trimtab shadow start {B[:12]} --reason "…": it answers a copy of live turns, to be compared',
        ),
    ],
)  # fmt: skip
def test_where_more_comparisons_are_all_that_is_missing_it_says_who_brings_them(lacks: Lacks, said: str) -> None:
    assert next_step(Situation(Serving(), Look(B, "held", "hold", "5" * 64, lacks))) == said


def test_what_no_evidence_can_bring_a_person_may_override() -> None:
    for lacks in (None, Lacks()):
        line = next_step(Situation(Serving(), Look(B, "held", "hold", "5" * 64, lacks)))
        assert line == f'trimtab approve {B[:12]} --evidence {"5" * 16} --override-hold --reason "…"'


def test_an_objection_comes_before_all_of_it() -> None:
    look = Look(B, "passed", "pass", "5" * 64, objected=True)
    assert next_step(Situation(Serving(), look)) == (
        f'trimtab object {B[:12]} --withdraw --reason "…", once it is settled: before that nobody can approve it'
    )


def test_from_nothing_to_a_running_service() -> None:
    assert "replay" in next_step(Situation(Serving(), events=False, trained=False, running=False))
    assert next_step(Situation(Serving(), trained=False, running=False)) == "trimtab train"
    held = Look(B, "held", "hold", "5" * 64)
    assert next_step(Situation(Serving(), waiting=held, running=False)) == f"trimtab show {B[:12]}"
    assert next_step(Situation(Serving(), held)) == (
        f'trimtab approve {B[:12]} --evidence {"5" * 16} --override-hold --reason "…"'
    )
    assert next_step(Situation(FULL, running=False)) == "trimtab up"
    assert next_step(Situation(FULL)).startswith("nothing")
