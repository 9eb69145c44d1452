"""The account after kill -9: what was answered, held against the log and the spool."""

from __future__ import annotations

from pathlib import Path

from bench.peers.killing import Logged, account, logged
from deploy.gateway.spool import Spool
from feedback.intake.edge import Edge
from feedback.records import Turn
from streams.sqlite.log import SqliteLog
from tests.fakes import CLOCK


def test_a_turn_that_was_answered_and_is_not_logged_is_missing() -> None:
    assert account(["a", "b"], [Logged("a", "e1", "ok")]).missing == ["b"]


def test_an_answered_turn_that_is_only_logged_as_broken_off_is_missing() -> None:
    assert account(["a"], [Logged("a", "e1", "aborted")]).missing == ["a"]


def test_a_turn_that_is_logged_twice_is_no_loss_and_is_counted() -> None:
    found = account(["a"], [Logged("a", "e1", "ok"), Logged("a", "e1", "ok"), Logged("b", "e2", "aborted")])
    assert (found.missing, found.twice, found.aborted) == ([], 1, 1)
    assert "none lost" in str(found)


def turn(number: int) -> Turn:
    return Turn(
        tenant="shop", event_id=f"e{number}", conversation_id="c", turn_id=f"t{number}", occurred_at_us=number,
        messages=[{"role": "user", "content": "hello"}], reply="", policy="base", outcome="aborted",
    )  # fmt: skip


async def test_the_log_and_the_spool_are_both_looked_at_and_what_is_held_back_is_not(tmp_path: Path) -> None:
    edge = Edge(b"k" * 32)
    log, spool = SqliteLog(tmp_path / "log.db", CLOCK), Spool(tmp_path / "spool.db", 10**9, CLOCK)
    log.append([edge.signed(turn(1))])
    await spool.send([edge.signed(turn(2))])
    await spool.hold("t3", edge.signed(turn(3)))
    await spool.close()
    log.close()
    assert {(one.turn_id, one.outcome) for one in logged(tmp_path)} == {("t1", "aborted"), ("t2", "aborted")}
