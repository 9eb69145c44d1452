"""`trimtab topics` on the embedded log, as it is typed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from deploy.cli.common import DONE, FAILED, USAGE
from deploy.parts import connect_log
from deploy.settings import Settings
from deploy.state import State, open_state
from feedback.intake.edge import Record
from feedback.topics import TOPICS
from streams.app import GROUPS
from tests.deploy.cli.typed import sentence, typed
from tests.fakes import CLOCK


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> State:
    monkeypatch.chdir(tmp_path)
    return open_state(tmp_path / "state")


def test_what_is_missing_is_named_with_what_makes_it_and_made_once(state: State) -> None:
    missing = json.loads(typed("topics", "describe", "--state", state.root, "--json").out)
    assert [row["name"] for row in missing] == list(TOPICS)
    assert all("trimtab topics create" in fault for row in missing for fault in row["faults"])
    code, out, _ = typed("topics", "create", "--partitions", "3", "--state", state.root)
    assert (code, len(out.splitlines())) == (DONE, len(TOPICS))
    assert "turns.served: made, with 3 partitions" in out
    assert typed("topics", "create", "--state", state.root).out == "nothing to do: all topics are there\n"
    assert json.loads(typed("topics", "create", "--state", state.root, "--json").out) == {"done": []}
    there = json.loads(typed("topics", "describe", "--state", state.root, "--json").out)
    assert {row["name"]: (row["partitions"], row["faults"]) for row in there} == dict.fromkeys(TOPICS, (3, []))
    assert "wrong" not in typed("topics", "describe", "--state", state.root).out


def test_the_lag_is_what_each_group_has_still_to_do_and_its_sum(state: State) -> None:
    typed("topics", "create", "--partitions", "1", "--state", state.root)
    log = connect_log(state, Settings(), CLOCK)
    log.append([Record("turns.served", b"c", b"{}")] * 1_500)
    log.commit(GROUPS["turns.served"], {("turns.served", 0): 300})
    log.close()
    document = json.loads(typed("topics", "lag", "--state", state.root, "--json").out)
    (behind,) = [row for row in document["partitions"] if row["lag"]]
    assert behind == {
        "group": GROUPS["turns.served"], "topic": "turns.served", "partition": 0, "done": 300, "end": 1_500, "lag": 1_200,
    }  # fmt: skip
    assert document["lag"] == 1_200
    assert typed("topics", "lag", "--state", state.root).out.splitlines()[-1] == "1,200 records to do"


def test_a_log_that_is_none_is_one_sentence_with_its_name(state: State) -> None:
    state.log.write_bytes(b"something else entirely" * 100)
    for command in ("create", "describe", "lag"):
        assert str(state.log) in sentence(typed("topics", command, "--state", state.root), FAILED)


@pytest.mark.parametrize("partitions", ["0", "-1", "10001", "many"])
def test_partitions_that_cannot_be_are_wrong_usage(state: State, partitions: str) -> None:
    code, out, error = typed("topics", "create", "--partitions", partitions, "--state", state.root)
    assert (code, out, "--partitions" in error) == (USAGE, "", True)
    assert not state.log.exists()
