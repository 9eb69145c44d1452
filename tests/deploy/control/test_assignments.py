"""Assignments: the first exposure decides, and what was decided stays."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from deploy.control import schema
from deploy.control.store import Control, open_control
from deploy.rules.assignment import WINDOW_US, Assignment, Conversation, Exposure
from deploy.rules.rollout import Promote, Rollback
from tests.deploy.control.test_store import canary, do
from tests.deploy.postgres import fresh

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


def test_many_conversations_at_once_get_what_each_would_get_alone(control: Control, tmp_path: Path) -> None:
    alone = open_control(tmp_path / "alone.db")
    for one in (control, alone):
        canary(one)
    asked = [Conversation(f"t-{n % 3}", f"c-{n % 50}", f"u-{n % 7}", n) for n in range(200)]
    control.expose_all(asked[30:40])
    exposures = control.expose_all(asked)
    assert exposures == [alone.expose(one.tenant, one.conversation_id, one.unit, one.at_us) for one in asked]
    assert {exposure.arm for exposure in exposures} == {"candidate", "incumbent"}
    stored = control.assignment("r", "t-0", "c-0")
    assert stored == alone.assignment("r", "t-0", "c-0") == Assignment("r", "t-0", "c-0", "u-0", stored.arm, 0.5, 0)  # type: ignore[union-attr]
    alone.close()


def shared_by_threads(control: Control) -> None:
    """All of them see the same new conversations, each in another order."""
    canary(control)
    barrier, got = threading.Barrier(6), list[dict[str, Exposure]]()

    def expose(n: int) -> None:
        asked = [Conversation("t", f"c-{place * (2 * n + 1) % 64}", f"u-{n}", n) for place in range(64)]
        barrier.wait(timeout=60)
        exposures = control.expose_all(asked)
        got.append({one.conversation_id: exposure for one, exposure in zip(asked, exposures, strict=True)})

    threads = [threading.Thread(target=expose, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert len(got) == 6
    assert all(one == got[0] and len(one) == 64 for one in got)


def test_gateways_that_meet_the_same_conversations_at_once_agree_on_all_of_them(control: Control) -> None:
    shared_by_threads(control)


@pytest.mark.slow
def test_on_postgresql_too(postgres: str) -> None:
    with fresh(postgres, "assignments") as url:
        control = open_control(url)
        shared_by_threads(control)
        control.close()


def test_a_rising_share_moves_a_unit_with_a_new_conversation_once_its_outcome_is_known(control: Control) -> None:
    canary(control, share=0.1)
    before = {n: control.expose("t", f"first-{n}", f"u{n}", 1) for n in range(40)}
    do(control, Promote((0.9, 1.0), 100))
    assert all(control.expose("t", f"first-{n}", f"u{n}", 2) == exposure for n, exposure in before.items())
    soon = {n: control.expose("t", f"second-{n}", f"u{n}", WINDOW_US) for n in range(40)}
    assert {n: exposure.arm for n, exposure in soon.items()} == {n: exposure.arm for n, exposure in before.items()}
    later = Counter(control.expose("t", f"third-{n}", f"u{n}", WINDOW_US + 1).arm for n in range(40))
    assert Counter(exposure.arm for exposure in before.values())["candidate"] < 12
    assert later["candidate"] > 28
    assert control.expose("t", "first-0", "u0", WINDOW_US + 2) == before[0]


def test_a_units_draws_are_told_in_the_order_in_which_they_were_made(control: Control) -> None:
    canary(control, share=0.1)
    for n in (2, 0, 1):
        control.expose("t", f"c-{n}", f"u{n}", 10 + n)
        control.expose("t", f"again-{n}", f"u{n}", 10 + n)
    do(control, Promote((0.9, 1.0), 100))
    control.expose("t", "late", "u0", 11 + WINDOW_US)
    told = control.assignments.enrolments("r")
    assert [(one.unit, one.number, one.share, one.at_us) for one in told if one.number == 0] == [
        ("u0", 0, 0.1, 10),
        ("u1", 0, 0.1, 11),
        ("u2", 0, 0.1, 12),
    ]
    again = [one for one in told if one.number]
    first = next(one for one in told if one.unit == "u0")
    assert len(again) == (first.arm == "incumbent")
    assert all(one.probability == pytest.approx(0.8 / 0.9) for one in again)
    assert control.assignments.enrolments("another") == []


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
