"""Reads and changes of the control database: what is stored of a rollout's moves is what the rules made of it."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deploy.control.records import Approval, Candidate, Seal, UnknownCandidate
from deploy.control.store import Control, open_control
from deploy.control.transaction import Transaction
from deploy.errors import Refused
from deploy.rules.approval import VERSION
from deploy.rules.assignment import Routing
from deploy.rules.rollout import Approve, Command, Halt, Pause, Promote, Resume, Rollback, transition
from tests.deploy.control.test_store import canary, do
from tests.deploy.postgres import fresh

COMMANDS = st.one_of(
    st.builds(Approve, st.sampled_from([letter * 64 for letter in "abc"]), st.just("")),
    st.builds(Promote, st.just((0.1, 0.5, 1.0)), st.just(10**9)),
    st.builds(Rollback, st.booleans()),
    st.sampled_from([Pause(), Resume(), Halt()]),
)


def candidate(digest: str, created_at_us: int = 1, **changes: Any) -> Candidate:
    values = {"snapshot": "s", "dataset_hash": "sha256:0", "report_sha256": "0", "registered_at_us": created_at_us + 5}
    return Candidate(
        **{"digest": digest, "created_at_us": created_at_us, "state": "held", "stage": "gate"} | values | changes
    )


def seal(name: str, of: str, version: int | None = VERSION) -> Seal:
    return Seal(name, of, "hold", (), {"figures": [1, 0.5]}, 1, version)


@contextmanager
def undone(control: Control) -> Iterator[Transaction]:
    """A transaction of which nothing stays."""
    with control.database.engine.connect() as connection:
        yield Transaction(connection)


@given(st.lists(st.integers(0, 3), max_size=9), st.integers(1, 4))
@settings(max_examples=25)
def pages_are_the_list(control: Control, created: list[int], size: int) -> None:
    with undone(control) as tx:
        for number, at_us in enumerate(created):
            tx.add_candidate(candidate(f"{number:064x}", at_us))
        seen = list[Candidate]()
        while page := tx.candidates(size, seen[-1] if seen else None):
            assert len(page) <= size
            seen += page
        assert seen == tx.candidates() == sorted(seen, key=lambda one: (one.created_at_us, one.digest), reverse=True)
        assert len(seen) == len(created)
        assert tx.digests() == {one.digest for one in seen}


@given(st.lists(COMMANDS, max_size=12))
@settings(max_examples=25)
def what_is_stored_is_what_the_rules_made(control: Control, commands: list[Command]) -> None:
    with undone(control) as tx:
        for now_us, command in enumerate(commands, 1):
            before = tx.serving()
            if isinstance(command, Approve):
                command = Approve(command.candidate, f"r-{now_us}", f"{now_us:064x}")
            with suppress(Refused):
                after, _ = transition(before, command, now_us)
                tx.save_serving(before, after, now_us)
                assert tx.serving() == after
            now, *_ = tx.periods()
            assert Routing(now.incumbent, now.candidate, now.rollout_id, now.share, now.halted) == tx.serving().routing
        periods = list(reversed(tx.periods()))
        assert [period.ended_at_us for period in periods] == [*(later.started_at_us for later in periods[1:]), None]
        told = [(p.incumbent, p.rollout_id, p.share, p.halted) for p in periods]
        assert all(one != other for one, other in itertools.pairwise(told)), "a period in which nothing changed"


def test_pages_of_any_size_are_the_list(control: Control) -> None:
    pages_are_the_list(control)


def test_whatever_is_commanded_what_is_stored_is_what_the_rules_made(control: Control) -> None:
    what_is_stored_is_what_the_rules_made(control)


@pytest.mark.slow
def test_on_postgresql_too(postgres: str) -> None:
    with fresh(postgres, "moves") as url:
        control = open_control(url)
        pages_are_the_list(control)
        what_is_stored_is_what_the_rules_made(control)
        control.close()


def test_the_stack_of_incumbents_survives(control: Control) -> None:
    canary(control)
    do(control, Promote((1.0,), 100), Approve("d" * 64, "s"), Promote((1.0,), 100))
    with control.read() as tx:
        assert tx.serving().incumbents == (None, "c" * 64, "d" * 64)
    do(control, Rollback(incumbent=True))
    assert control.routing().incumbent == "c" * 64


def test_the_periods_of_one_rollout_can_be_asked_for(control: Control) -> None:
    canary(control)
    do(control, Rollback(), Approve("d" * 64, "s"), Promote((0.25, 1.0), 100))
    with control.read() as tx:
        assert [(period.candidate, period.share) for period in tx.periods("s")] == [("d" * 64, 0.25)]
        assert [period.share for period in tx.periods(limit=2)] == [0.25, 0.0]


def test_candidates_of_some_states_can_be_asked_for_and_are_counted(control: Control) -> None:
    with control.change() as tx:
        for number, state in enumerate(["held", "passed", "held", "rejected"]):
            tx.add_candidate(candidate(f"{number:064x}", number, state=state))
        assert [one.created_at_us for one in tx.candidates(states=("held", "rejected"))] == [3, 2, 0]
        assert tx.count_by_state() == {"held": 2, "passed": 1, "rejected": 1}


def test_who_waits_longest_was_made_after_what_serves(control: Control) -> None:
    with control.change() as tx:
        assert tx.waiting_since_us(0) is None
        for digest, created_at_us, state in (("a", 10, "held"), ("b", 20, "passed"), ("c", 30, "rejected")):
            tx.add_candidate(candidate(digest * 64, created_at_us, state=state))
        assert [tx.waiting_since_us(overtaken_us) for overtaken_us in (0, 10, 20)] == [15, 25, None]


def test_a_move_keeps_the_stage_that_it_does_not_name(control: Control) -> None:
    with control.change() as tx:
        tx.add_candidate(candidate("a" * 64))
        tx.move("a" * 64, "canary", "canary")
        tx.move("a" * 64, "rolled_back", None)
        assert (tx.candidate("a").state, tx.candidate("a").stage) == ("rolled_back", "canary")
        tx.move("a" * 64, "rejected", None, rejected_by="ada")
        assert tx.candidate("a").rejected_by == "ada"


def test_the_latest_seal_is_the_candidates_and_the_same_one_again_is_fine(control: Control) -> None:
    with control.change() as tx:
        tx.add_candidate(candidate("a" * 64))
        assert tx.current_seal(tx.candidate("a")) is None
        for name in ("1" * 64, "2" * 64, "1" * 64):
            tx.add_seal(seal(name, "a" * 64))
            latest = tx.current_seal(tx.candidate("a"))
            assert latest is not None
            assert latest.seal == name
        assert tx.seal("2" * 64).evidence == {"figures": [1, 0.5]}


def test_a_seal_is_found_by_the_beginning_of_its_name_among_its_candidates_of_this_version(control: Control) -> None:
    with control.change() as tx:
        for digest in "ab":
            tx.add_candidate(candidate(digest * 64))
        tx.add_seal(seal("1a" + "0" * 62, "a" * 64))
        tx.add_seal(seal("1b" + "0" * 62, "a" * 64))
        tx.add_seal(seal("1c" + "0" * 62, "b" * 64))
        tx.add_seal(seal("2a" + "0" * 62, "a" * 64, version=None))
        found = {
            name: tx.sealed("a" * 64, name) for name in ("1", " 1A ", "1c", "2a", "", "%", "_" * 64, "1a\x00", "\udcff")
        }
        assert {name: one.seal[:2] for name, one in found.items() if one is not None} == {" 1A ": "1a"}


@pytest.mark.parametrize("name", ["", " \t"])
def test_a_name_that_was_left_empty_is_no_seal_though_there_is_one_only(control: Control, name: str) -> None:
    with control.change() as tx:
        tx.add_candidate(candidate("a" * 64))
        tx.add_seal(seal("1" * 64, "a" * 64))
        assert tx.sealed("a" * 64, name) is None


def test_approvals_are_those_of_the_candidate_newest_first(control: Control) -> None:
    given = [Approval("r", at_us, digest * 64, "1" * 64, "ada", "r", False) for at_us, digest in enumerate("aba")]
    with control.change() as tx:
        for approval in given:
            tx.add_approval(approval)
        assert tx.approvals("a" * 64) == [given[2], given[0]]


@pytest.mark.parametrize(
    "prefix", ["", " ", "tt-", "b", "%", "_", "a%", "\\", "a\x00", "\x00", "\udcff", "a" * 65, "ä"]
)
def test_what_begins_no_digest_is_an_unknown_candidate(control: Control, prefix: str) -> None:
    with control.change() as tx:
        tx.add_candidate(candidate("a" * 64))
        with pytest.raises(UnknownCandidate, match="`trimtab candidates` lists them"):
            tx.candidate(prefix)


@pytest.mark.slow
def test_on_postgresql_it_is_unknown_too(postgres: str) -> None:
    with fresh(postgres, "prefixes") as url:
        control = open_control(url)
        with control.read() as tx:
            for prefix in ("a\x00", "\\", "%"):
                with pytest.raises(UnknownCandidate):
                    tx.candidate(prefix)
            assert tx.sealed("a" * 64, "1\x00") is None
        control.close()


def test_a_beginning_that_several_have_names_some_of_them(control: Control, tmp_path: Path) -> None:
    with control.change() as tx:
        for number in range(7):
            tx.add_candidate(candidate(f"abc{number}" + "0" * 60))
        with pytest.raises(UnknownCandidate, match=r"begins with 'abc': (abc\d00000, ){4}abc\d00000 …$"):
            tx.candidate("abc")
        assert tx.candidate("tt-ABC3").digest.startswith("abc3")
