"""A state directory of an earlier version goes on where it was."""

from __future__ import annotations

import hashlib
import tarfile
from collections import Counter
from pathlib import Path

import msgspec
import pytest

from deploy.control.history import first_broken
from deploy.control.store import Control, open_control
from deploy.decisions.operations import Operations
from deploy.errors import Refused
from deploy.settings import Settings
from deploy.state import State, open_state
from feedback.dataset import snapshot
from feedback.dataset.tables import TABLES, TableName
from feedback.facts.reader import Facts
from streams import dead_letters
from streams.sqlite.log import SqliteLog
from tests.fakes import CLOCK

OLD = Path(__file__).parents[1] / "fixtures" / "state-0.1.0.tar.xz"
INCUMBENT, CANARY = "16c951ecbf17", "1477c945029f"


@pytest.fixture
def state(tmp_path: Path) -> State:
    with tarfile.open(OLD) as archive:
        archive.extractall(tmp_path, filter="data")
    (tmp_path / "state").chmod(0o700)
    return open_state(tmp_path / "state")


@pytest.fixture
def control(state: State) -> Control:
    return open_control(state.control)


@pytest.fixture
def rules(control: Control, state: State) -> Operations:
    return Operations(control, Settings, state.candidates, CLOCK)


def test_the_rollout_under_way_goes_on_to_full(rules: Operations) -> None:
    serving = rules.serving()
    assert serving["incumbent"].startswith(INCUMBENT)
    assert (serving["rollout"]["candidate"][:12], serving["rollout"]["share"]) == (CANARY, 0.05)
    while rules.serving()["rollout"]:
        rules.promote(actor="ada")
    assert rules.serving()["incumbent"].startswith(CANARY)
    assert rules.rollback(actor="ada", incumbent=True)["incumbent"].startswith(INCUMBENT)


def test_what_was_sealed_before_is_history_only(rules: Operations) -> None:
    with rules.control.read() as tx:
        old = tx.approvals(tx.candidate(CANARY).digest)[0].seal
        assert tx.seal(old).version is None
    assert {view["evidence"] for view in rules.candidates()} == {None}
    rules.rollback(actor="ada")
    with pytest.raises(Refused, match="is no seal of"):
        rules.approve(CANARY, evidence=old, reason="r", actor="ada", override_hold=True)
    fresh = rules.show(CANARY)["evidence"]
    assert rules.approve(CANARY, evidence=fresh, reason="r", actor="ada", override_hold=True)["state"] == "approved"


def test_the_history_is_whole_and_goes_on(rules: Operations) -> None:
    assert len(rules.history()) == 19
    rules.pause(actor="ada", reason="looking")
    assert [event["action"] for event in rules.history(2)] == ["pause", "train"]
    with rules.control.read() as tx:
        assert first_broken(tx.connection) is None
    newest, *_ = rules.periods()
    assert (newest["share"], newest["candidate"][:12], newest["to"]) == (0.05, CANARY, None)


def test_the_rollout_under_way_keeps_the_rule_by_which_it_chose_arms(rules: Operations, control: Control) -> None:
    def before(rollout: str, conversation: str, share: float) -> str:
        hashed = hashlib.sha256(f"{len(rollout)}:{rollout}default/{conversation}".encode()).digest()
        return "candidate" if int.from_bytes(hashed[:6], "big") / 2**48 < share else "incumbent"

    def arms(name: str) -> list[str]:
        return [control.expose("default", f"{name}-{n}", f"{name}-{n}", 1).arm for n in range(60)]

    for name in ("at 5%", "at the next share"):
        routing = control.routing()
        assert routing.rollout_id is not None
        assert arms(name) == [before(routing.rollout_id, f"{name}-{n}", routing.share) for n in range(60)]
        rules.promote(actor="ada")
    assert "candidate" in arms("at the next share")


def test_assignments_and_keys_stand(control: Control) -> None:
    rollout = control.routing().rollout_id
    assert rollout is not None
    arms = {control.expose("default", f"conversation-{n}", f"conversation-{n}", 1).arm for n in range(40)}
    assert arms <= {"candidate", "incumbent"}
    assert control.assignment(rollout, "default", "conversation-1") is not None
    assert [key.name for key in control.keys.list() if key.revoked_at_us is None] == ["support-app"]


def test_the_facts_make_the_dataset_that_they_made_and_what_is_learned_from_since(state: State) -> None:
    facts = Facts(state.facts)
    newest = snapshot.list_snapshots(state.snapshots)[-1]
    assert snapshot.verify(state.snapshots / newest.name) == newest
    sealed = snapshot.seal(facts, newest.as_of_us, Settings().window, state.root / "again", newest.rules_version)
    # since version 3 of the rules a label's id names the conversation too, and a turn behind a call of a tool is learned from
    before, after = (said_in(path) for path in (state.snapshots / newest.name, sealed.path))
    assert {table: rows - after[table] for table, rows in before.items()} == {table: Counter() for table in before}
    assert (after["turns"] - before["turns"]).total() == 1


def said_in(path: Path) -> dict[TableName, Counter[bytes]]:
    """What the rows of each table say, whatever their ids; but for the judge's, which are a sample by those ids."""
    found: dict[TableName, Counter[bytes]] = {}
    for table in TABLES:
        rows = [msgspec.to_builtins(record) | {"id": ""} for record in snapshot.read(path, table)]
        by_others = (row for row in rows if row.get("provenance", {}).get("source") != "judge")
        found[table] = Counter(map(msgspec.json.encode, by_others))
    return found


def test_dead_letters_are_still_there(state: State) -> None:
    letters = list(dead_letters.read(SqliteLog(state.log, CLOCK)))
    assert {letter.reason for letter in letters} == {"bad_json"}


def test_opening_it_twice_migrates_it_once(state: State) -> None:
    for _ in range(2):
        control = open_control(state.control)
        assert control.routing().share == 0.05
        control.close()
