"""`trimtab migrate`, as it is typed: nothing is touched where it can't or mustn't move."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from deploy.cli.common import FAILED, REFUSED
from deploy.state import State, open_state
from feedback.intake.contract import Rejected
from feedback.intake.edge import Edge
from streams.sqlite.log import SqliteLog
from tests.deploy.cli.typed import sentence, typed
from tests.deploy.commands import answer, typed_in
from tests.fakes import CLOCK
from tests.streams.test_worker import turn


@pytest.fixture
def state(tmp_path: Path) -> State:
    """A state directory with 50 turns waiting on its log."""
    opened = open_state(tmp_path / ".trimtab")
    log, edge = SqliteLog(opened.log, CLOCK), Edge(opened.secret("edge"))
    made = [edge.record(json.dumps(turn(n)).encode(), 1_790_000_000_000_000) for n in range(50)]
    log.append([record for record in made if not isinstance(record, Rejected)])
    log.close()
    return opened


@pytest.mark.kafka
def test_the_command_moves_what_waits_and_keeps_the_old_log(
    tmp_path: Path, state: State, kafka_servers: str, prefix: str
) -> None:
    variables = {"TRIMTAB_BROKER__PREFIX": prefix, "TRIMTAB_BROKER__PARTITIONS": "2"}
    with state.lock("worker"):
        refused = typed_in(tmp_path, "migrate", "--to", f"kafka://{kafka_servers}", **variables)
    assert (refused.code, "the worker of" in refused.error) == (3, True)
    assert answer("migrate", "--to", f"kafka://{kafka_servers}", cwd=tmp_path, **variables)["moved"] == 50
    assert not state.log.exists()
    assert state.log.with_name("log.db.moved").exists()
    again = typed_in(tmp_path, "migrate", "--to", f"kafka://{kafka_servers}", **variables)
    assert (again.code, "no embedded log to move" in again.error) == (3, True)
    found = answer("topics", "lag", cwd=tmp_path, TRIMTAB_BROKER__URL=f"kafka://{kafka_servers}", **variables)
    assert found["lag"] == 50


@pytest.mark.parametrize(
    "url",
    [
        "sqlite://",
        "kafka-1:9092",
        "kafka://",
        "http://kafka:9092",
        "kafka://a b",
        "",
        "kafka://x",
        "kafka://a:b",
        "kafka://a:9,b",
    ],
)
def test_an_address_that_is_no_cluster_is_refused_with_how_one_is_written(state: State, url: str) -> None:
    said = typed("migrate", "--to", url, "--state", state.root)
    assert "kafka://host:port" in sentence(said, REFUSED)
    assert state.log.exists()


@pytest.mark.parametrize("role", ["up", "gateway", "worker"])
def test_it_does_not_move_a_log_that_somebody_uses(state: State, role: str) -> None:
    before = state.log.read_bytes()
    with state.play(role):
        said = typed("migrate", "--to", "kafka://127.0.0.1:9", "--state", state.root)
    assert f"the {role} of {state.root} is already running" in sentence(said, REFUSED)
    assert state.log.read_bytes() == before


@pytest.mark.slow
def test_a_cluster_that_does_not_answer_is_one_sentence_and_the_log_stays(state: State) -> None:
    said = typed("migrate", "--to", "kafka://127.0.0.1:9", "--state", state.root)
    assert "127.0.0.1:9" in sentence(said, FAILED)
    assert state.log.exists()
