"""The state machine: one rollout at a time, nothing served that nobody approved, no move untold."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from deploy.errors import Refused
from deploy.rules.rollout import Approve, Command, Halt, Moved, Pause, Promote, Resume, Rollback, Serving, transition

SHARES = (0.05, 0.5, 1.0)
PROMOTE = Promote(SHARES, expires_us=100)


def after(*commands: Command, start: Serving | None = None, now_us: int = 0) -> Serving:
    serving = start or Serving()
    for command in commands:
        serving, _ = transition(serving, command, now_us)
    return serving


def full(digest: str, start: Serving | None = None) -> Serving:
    return after(Approve(digest, f"r-{digest}"), PROMOTE, PROMOTE, PROMOTE, start=start)


def test_a_candidate_rises_share_by_share_until_it_is_the_incumbent() -> None:
    serving, shares = after(Approve("a", "r")), []
    for _ in SHARES:
        shares.append(serving.share("a"))
        serving = after(PROMOTE, start=serving)
    assert shares == [0.0, 0.05, 0.5]
    assert (serving.incumbent, serving.rollout, serving.share("a")) == ("a", None, 1.0)


def test_an_approval_alone_routes_nothing() -> None:
    assert after(Approve("a", "r")).routing.candidate is None


def test_only_one_rollout_at_a_time() -> None:
    with pytest.raises(Refused, match="a rollout is under way"):
        after(Approve("a", "r"), Approve("b", "s"))


def test_a_rollback_in_the_canary_leaves_the_incumbent_and_the_candidate_nothing() -> None:
    serving = after(Approve("b", "r"), PROMOTE, Rollback(), start=full("a"))
    assert (serving.incumbent, serving.share("b"), serving.share("a")) == ("a", 0.0, 1.0)


def test_a_rollback_of_the_incumbent_goes_back_one_by_one_to_the_bare_base() -> None:
    both = full("b", start=full("a"))
    with pytest.raises(Refused, match="add --incumbent: a would serve then"):
        transition(both, Rollback(), 0)
    serving, moves = transition(both, Rollback(incumbent=True), 0)
    assert serving.incumbent == "a"
    assert moves == (Moved("b", "full", "rolled_back"), Moved("a", "superseded", "full", 1.0))
    assert after(Rollback(incumbent=True), start=serving).incumbent is None
    with pytest.raises(Refused, match="nothing to roll back"):
        after(Rollback(incumbent=True), Rollback(incumbent=True), start=serving)


def test_rolling_back_twice_leaves_the_incumbent_where_it_is() -> None:
    once = after(Approve("b", "r"), PROMOTE, Rollback(), start=full("a"))
    with pytest.raises(Refused, match="no rollout is under way"):
        transition(once, Rollback(), 0)
    with pytest.raises(Refused, match="a rollout is under way"):
        after(Approve("b", "r"), Rollback(incumbent=True), start=full("a"))


def test_a_revision_names_one_state() -> None:
    states = [Serving(), full("a"), after(Approve("a", "r")), after(Approve("a", "r"), PROMOTE), after(Halt())]
    states += [after(Approve("a", "r"), PROMOTE, Pause()), after(Approve("a", "s"), PROMOTE)]
    assert len({serving.revision for serving in states}) == len(states)
    assert after(Halt(), Resume()).revision == Serving().revision


def test_a_paused_canary_keeps_its_share_and_is_not_promoted() -> None:
    serving = after(Approve("a", "r"), PROMOTE, Pause(), Pause())
    assert serving.routing.share == 0.05
    with pytest.raises(Refused, match="paused"):
        transition(serving, PROMOTE, 0)
    assert after(Resume(), PROMOTE, start=serving).routing.share == 0.5


def test_halt_is_always_possible_changes_nothing_else_and_resume_lifts_it() -> None:
    for serving in (Serving(), full("a"), after(Approve("a", "r")), after(Approve("a", "r"), PROMOTE, Pause())):
        halted = after(Halt(), Halt(), start=serving)
        assert halted.routing.halted
        assert after(Resume(), start=halted) == serving


@pytest.mark.parametrize("command", [PROMOTE, Approve("b", "s")])
def test_while_halted_nothing_new_is_served(command: Command) -> None:
    with pytest.raises(Refused, match="halted"):
        after(Approve("a", "r"), PROMOTE, Halt(), command)


def test_an_expired_approval_starts_nothing_but_may_be_renewed() -> None:
    serving = after(Approve("a", "r"), now_us=1_000)
    with pytest.raises(Refused, match="expired"):
        transition(serving, PROMOTE, 1_100)
    renewed = after(Approve("a", "other"), start=serving, now_us=1_050)
    assert after(PROMOTE, start=renewed, now_us=1_149).routing.rollout_id == "r"


def test_an_approval_that_was_used_does_not_expire() -> None:
    assert after(PROMOTE, start=after(Approve("a", "r"), PROMOTE), now_us=10**9).routing.share == 0.5


class Machine(RuleBasedStateMachine):
    """Any commands in any order, at any time."""

    def __init__(self) -> None:
        super().__init__()
        self.serving, self.now_us = Serving(), 0
        self.approved: set[str] = set()
        self.told: dict[str | None, str] = {None: "serving"}
        self.shares: dict[str, float] = {}

    @rule(
        command=st.sampled_from(
            [PROMOTE, Promote((1.0,), 100), Pause(), Resume(), Rollback(), Rollback(incumbent=True), Halt()]
        )
        | st.builds(Approve, st.sampled_from("abc"), st.uuids().map(str)),
        elapsed_us=st.sampled_from([0, 1, 60]),
    )
    def do(self, command: Command, elapsed_us: int) -> None:
        self.now_us += elapsed_us
        try:
            after, moves = transition(self.serving, command, self.now_us)
        except Refused:
            assert not isinstance(command, Halt), "the kill switch must never be refused"
            return
        if isinstance(command, Approve):
            self.approved.add(command.candidate)
        for moved in moves:
            if moved.before is not None:
                assert moved.before == self.told[moved.candidate], "the history has a hole"
            self.told[moved.candidate] = moved.after
            if moved.candidate is not None:
                self.shares[moved.candidate] = moved.share
        assert moves or after.routing == self.serving.routing, "something changed untold"
        self.serving = after

    @invariant()
    def only_what_was_approved_is_served(self) -> None:
        for digest in "abc":
            assert self.serving.share(digest) == 0 or digest in self.approved
        assert {self.serving.routing.incumbent, self.serving.routing.candidate} - {None} <= self.approved

    @invariant()
    def the_shares_add_up(self) -> None:
        base = 1.0 if self.serving.halted else self.serving.share("base")
        served = sum(self.serving.share(digest) for digest in "abc")
        canary = self.serving.rollout.share if self.serving.rollout else 0.0
        rest = base if self.serving.halted else 1 - canary if self.serving.incumbent is None else 0.0
        assert served + rest == pytest.approx(1.0)

    @invariant()
    def what_was_told_is_what_is(self) -> None:
        under_way = [digest for digest, state in self.told.items() if state in ("approved", "canary", "paused")]
        rollout = self.serving.rollout
        assert under_way == ([rollout.candidate] if rollout else [])
        if rollout is not None:
            assert (self.told[rollout.candidate], self.shares[rollout.candidate]) == (rollout.state, rollout.share)
        assert [digest for digest, state in self.told.items() if state == "full"] == [
            digest for digest in [self.serving.incumbent] if digest
        ]
        assert self.told[None] == ("halted" if self.serving.halted else "serving")
        assert len(set(self.serving.incumbents)) == len(self.serving.incumbents)


TestMachine = Machine.TestCase
TestMachine.settings = settings(max_examples=100, stateful_step_count=30)
