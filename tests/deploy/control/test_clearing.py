"""Of what is over nobody knows any more who was in it; on SQLite and on PostgreSQL."""

from __future__ import annotations

from sqlalchemy import Table, select

from deploy.control import schema
from deploy.control.clearing import AT_ONCE, clear
from deploy.control.records import RolloutLook
from deploy.control.shadows import begin_shadow, end_shadow
from deploy.control.store import Control
from deploy.rules.assignment import Conversation, Shadow
from deploy.rules.labelling import CLAIM_US
from deploy.rules.rollout import Rollback
from tests.deploy.control.test_store import canary, do
from tests.deploy.pairs import CANDIDATE, add_candidate, pair

OTHER = "d" * 64


def rows(control: Control, table: Table) -> int:
    with control.read() as tx:
        return len(tx.connection.execute(select(table)).all())


def test_of_rollouts_that_ended_long_ago_the_units_are_forgotten_and_of_no_other(any_control: Control) -> None:
    control, database = any_control, any_control.database
    canary(control)
    control.expose_all([Conversation("t", f"c-{n}", f"u-{n}", n) for n in range(AT_ONCE + 1)])
    with control.change() as tx:
        tx.save_look(RolloutLook("r", 1, {}))
    assert clear(database, 2**62) == 0
    do(control, Rollback())
    with control.read() as tx:
        ended_at_us = tx.connection.execute(select(schema.rollouts.c.ended_at_us)).scalar_one()
    assert clear(database, ended_at_us) == 0
    assert list(iter(lambda: clear(database, ended_at_us + 1), 0)) == [2 * AT_ONCE + 1, 2]
    assert control.assignment("r", "t", "c-0") is None
    assert control.assignments.enrolments("r") == []
    with control.read() as tx:
        assert tx.look("r") is None
        assert [period.rollout_id for period in tx.periods("r")] == ["r"]


def test_for_whom_a_candidate_was_asked_is_forgotten_long_after_somebody_has_decided_on_it(
    any_control: Control,
) -> None:
    control, database = any_control, any_control.database
    for number, (digest, state) in enumerate({CANDIDATE: "held", OTHER: "rejected"}.items()):
        add_candidate(control, digest, state)  # type: ignore[arg-type]
        shadow = Shadow(f"s-{number}", digest, 1, 100, 1_000, "5a" * 32)
        with control.change() as tx:
            begin_shadow(tx.connection, shadow)
        for at_us, unit in enumerate(("ann", "bob", "eve")):
            assert control.shadows.ask(shadow, "t", unit, 10, at_us) == "asked"
        with control.change() as tx:
            end_shadow(tx.connection, shadow, "held", "", 5)
    assert [clear(database, 2), clear(database, 2)] == [2, 0]
    with control.read() as tx:
        asks = schema.shadow_asks.c
        left = tx.connection.execute(select(asks.candidate, asks.unit).order_by(asks.candidate, asks.unit)).all()
    assert [tuple(row) for row in left] == [(CANDIDATE, "ann"), (CANDIDATE, "bob"), (CANDIDATE, "eve"), (OTHER, "eve")]


def test_who_was_shown_which_pair_first_is_forgotten_too_and_what_was_said_of_it_stays(any_control: Control) -> None:
    control = any_control
    add_candidate(control)
    control.comparisons.add([pair(1)])
    labelling = control.labelling
    assert labelling.next("anna", None, 2, 0.0) is not None
    labelling.answer(pair(1).id, "anna", None, "first", 3)
    later = 2 + CLAIM_US + 1
    assert clear(control.database, later) == 0
    with control.change() as tx:
        tx.move(CANDIDATE, "rejected", "gate")
    assert [clear(control.database, later), clear(control.database, later)] == [1, 0]
    assert rows(control, schema.comparison_claims) == 0
    assert [len(one.labels) for one in control.comparisons.of(CANDIDATE, None)] == [1]
