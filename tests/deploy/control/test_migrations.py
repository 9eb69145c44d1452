"""A control database of an earlier version is brought up to date: on SQLite and on PostgreSQL, to the same, or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import text

from deploy.control.history import first_broken
from deploy.control.schema import SCHEMA_VERSION
from deploy.control.store import open_control
from deploy.decisions.operations import Operations
from deploy.errors import Failed
from deploy.rules.assignment import Routing
from deploy.settings import Settings
from tests.deploy.control.version_1 import bare, content, copy, indexes, unpacked
from tests.deploy.pairs import CANDIDATE, pair
from tests.deploy.postgres import fresh
from tests.fakes import CLOCK

INCUMBENT, CANARY = "16c951ecbf17", "1477c945029f"
ANY_SERVER = pytest.mark.parametrize(
    "where", ["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)], indirect=True
)


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return unpacked(tmp_path)


@pytest.fixture
def where(request: pytest.FixtureRequest, state: Path) -> Iterator[str | Path]:
    """A control database of version 1, a canary at 5% under way."""
    if request.param == "sqlite":
        yield state / "control.db"
        return
    with fresh(request.getfixturevalue("postgres"), "version_1") as url:
        copy(state / "control.db", url)
        yield url


def say(where: str | Path, *statements: str) -> None:
    with bare(where).begin() as connection:
        for statement in statements:
            connection.execute(text(statement))


@pytest.mark.slow
@pytest.mark.parametrize("where", ["postgresql"], indirect=True)
def test_on_postgresql_it_becomes_what_it_becomes_on_sqlite(where: str, state: Path, tmp_path: Path) -> None:
    open_control(where).close()
    open_control(state / "control.db").close()
    assert content(where) == content(state / "control.db")
    assert indexes(where) == indexes(state / "control.db")


@ANY_SERVER
def test_it_gets_every_column_and_index_that_a_new_one_has(where: str | Path, tmp_path: Path) -> None:
    open_control(where).close()
    open_control(tmp_path / "new.db").close()
    new = content(tmp_path / "new.db")
    assert {name: set(columns) for name, (columns, _) in content(where).items()} == {
        name: set(columns) for name, (columns, _) in new.items()
    }
    assert indexes(where) == indexes(tmp_path / "new.db")


@ANY_SERVER
def test_nothing_that_was_there_is_lost(where: str | Path) -> None:
    before = content(where)
    open_control(where).close()
    after = content(where)
    for name, (columns, rows) in before.items():
        places = [after[name][0].index(column) for column in columns]
        kept = sorted((tuple(row[place] for place in places) for row in after[name][1]), key=repr)
        assert kept == (rows if name != "schema_version" else [(SCHEMA_VERSION,)])


@ANY_SERVER
def test_the_rollout_under_way_goes_on_to_full_and_the_history_stays_whole(where: str | Path, state: Path) -> None:
    control = open_control(where)
    rules = Operations(control, Settings, state / "candidates", CLOCK)
    rules.promote(actor="ada")
    rules.rollback(actor="ada")
    evidence = rules.show(CANARY)["evidence"]
    rules.approve(CANARY, evidence=evidence, reason="r", actor="ada", override_hold=True)
    while rules.serving()["rollout"]:
        rules.promote(actor="ada")
    assert rules.serving()["incumbent"].startswith(CANARY)
    training = control.trainings.start("200 new labels", 1, "s", {"log/ratings.given/0": 7})
    control.trainings.end(training, "done", 2)
    with control.read() as tx:
        assert first_broken(tx.connection) is None
        assert [entry.number for entry in tx.history()] == list(range(len(tx.history()), 0, -1))
    control.close()


@ANY_SERVER
@pytest.mark.parametrize(
    "was",
    [
        "UPDATE rollouts SET share = 0.25, state = 'paused'",
        "UPDATE rollouts SET share = 0.0, state = 'approved'",
        "UPDATE serving SET halted = true",
        "UPDATE serving SET rollout_id = NULL",
        "UPDATE serving SET rollout_id = NULL, incumbents = '[null]'",
    ],
)
def test_what_is_served_now_is_the_period_that_now_is(where: str | Path, was: str) -> None:
    say(where, was)
    control = open_control(where)
    with control.read() as tx:
        (now,) = tx.periods()
    assert Routing(now.incumbent, now.candidate, now.rollout_id, now.share, now.halted) == control.routing()
    assert (now.started_at_us, now.ended_at_us) == (control.history(1)[0].at_us, None)
    control.close()


@ANY_SERVER
def test_the_rollout_under_way_goes_on_by_its_rule_and_the_next_one_has_a_salt(where: str | Path, state: Path) -> None:
    control = open_control(where)
    assert (control.routing().share, control.routing().salt) == (0.05, None)
    rules = Operations(control, Settings, state / "candidates", CLOCK)
    rules.rollback(actor="ada")
    evidence = rules.show(CANARY)["evidence"]
    rules.approve(CANARY, evidence=evidence, reason="r", actor="ada", override_hold=True)
    rules.promote(actor="ada")
    salt = control.routing().salt or ""
    assert len(salt) == 64
    told = [rules.serving(), rules.show(CANARY), rules.candidates(), rules.history(), rules.periods()]
    assert salt not in repr(told)
    control.close()


BEFORE_3, BEFORE_4, BEFORE_5, BEFORE_6 = (
    ("ALTER TABLE rollouts DROP COLUMN salt",),
    ("DROP TABLE enrolments", "DROP TABLE looks", "DROP TABLE objections"),
    (
        *("DROP TABLE comparisons", "DROP TABLE comparison_labels", "DROP TABLE comparison_claims"),
        *("DROP TABLE shadows", "DROP TABLE shadow_asks"),
    ),
    ("ALTER TABLE comparisons DROP COLUMN identical", "ALTER TABLE comparisons DROP COLUMN until_us"),
)


@ANY_SERVER
@pytest.mark.parametrize(
    ("version", "lacks"),
    [(2, BEFORE_3 + BEFORE_4 + BEFORE_5), (3, BEFORE_4 + BEFORE_5), (4, BEFORE_5), (5, BEFORE_6)],
)
def test_a_database_of_a_later_version_is_brought_up_to_date_too(
    where: str | Path, version: int, lacks: tuple[str, ...]
) -> None:
    open_control(where).close()
    up_to_date = content(where), indexes(where)
    say(where, *lacks, f"UPDATE schema_version SET version = {version}")
    open_control(where).close()
    assert (content(where), indexes(where)) == up_to_date


@ANY_SERVER
def test_of_pairs_that_were_there_it_is_known_until_when_they_are_waited_for_and_whether_both_replies_are_the_same(
    where: str | Path,
) -> None:
    control = open_control(where)
    same = replace(pair(1), candidate_reply="Good  day!", incumbent_reply="Good day!")
    control.comparisons.add([same, pair(2)])
    control.close()
    say(where, *BEFORE_6, "UPDATE schema_version SET version = 5")
    control = open_control(where)
    assert [one.identical for one in control.comparisons.of(CANDIDATE, None)] == [True, False]
    assert [one.until_us for one in control.comparisons.of(CANDIDATE, None)] == [pair(n).until_us for n in (1, 2)]
    control.close()


@ANY_SERVER
def test_a_migration_that_fails_leaves_everything_as_it_was(where: str | Path) -> None:
    say(where, "CREATE TABLE periods (id INTEGER)")
    before = content(where), indexes(where)
    with pytest.raises(Failed, match="can't be opened"):
        open_control(where)
    assert (content(where), indexes(where)) == before
    say(where, "DROP TABLE periods")
    open_control(where).close()


@ANY_SERVER
def test_of_several_that_open_it_at_once_one_migrates(where: str | Path) -> None:
    with ThreadPoolExecutor(6) as pool:
        opened = list(pool.map(open_control, [where] * 6))
    assert {control.routing().share for control in opened} == {0.05}
    with opened[0].read() as tx:
        assert len(tx.periods()) == 1
    for control in opened:
        control.close()
