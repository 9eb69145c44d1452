"""Assignments: the first exposure decides, and what was decided stays."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import replace

from deploy.control import schema
from deploy.control.store import Control
from deploy.rules.assignment import Assignment
from deploy.rules.rollout import Promote, Rollback
from tests.deploy.control.test_store import canary, do

FIRST = Assignment("r", "t", "c", "u", "candidate", 0.05, 1)


def test_the_first_assignment_stands(control: Control) -> None:
    assert control.assign(FIRST) == FIRST
    assert control.assign(replace(FIRST, arm="incumbent", at_us=2)) == FIRST
    assert control.assignment("r", "t", "c") == FIRST
    assert control.assignment("r", "other tenant", "c") is None


def test_of_threads_that_assign_at_once_all_get_the_same_arm(control: Control) -> None:
    barrier, got = threading.Barrier(8), []

    def assign(n: int) -> None:
        barrier.wait(timeout=60)
        got.append(control.assign(replace(FIRST, arm="candidate" if n % 2 else "incumbent", at_us=n)))

    threads = [threading.Thread(target=assign, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert len(got) == 8
    assert set(got) == {control.assignment("r", "t", "c")}


def test_a_rising_share_moves_a_unit_only_with_its_next_conversation(control: Control) -> None:
    canary(control, share=0.1)
    before = {n: control.expose("t", f"first-{n}", f"u{n}", 1) for n in range(40)}
    do(control, Promote((0.9, 1.0), 100))
    assert all(control.expose("t", f"first-{n}", f"u{n}", 2) == exposure for n, exposure in before.items())
    second = Counter(control.expose("t", f"second-{n}", f"u{n}", 2).arm for n in range(40))
    assert Counter(exposure.arm for exposure in before.values())["candidate"] < 12
    assert second["candidate"] > 28


def test_a_rollback_takes_every_conversation_off_the_candidate(control: Control) -> None:
    canary(control, share=0.99)
    assert control.expose("t", "c", "u", 1).policy == "c" * 64
    do(control, Rollback())
    exposure = control.expose("t", "c", "u", 2)
    assert (exposure.policy, exposure.rollout_id, exposure.arm) == (None, None, "incumbent")


def test_without_a_canary_nothing_is_stored(control: Control) -> None:
    control.expose("t", "c", "u", 1)
    with control.read() as tx:
        assert tx.connection.execute(schema.assignments.select()).all() == []
