"""The parts of a deployment: put together as the settings say, or one sentence on why not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from deploy.control.store import Control
from deploy.errors import Failed
from deploy.parts import connect_log, kafka_access, load_rubric, make_ask, open_log, read_log, served_there, unsigned
from deploy.settings import BrokerSettings, Settings
from deploy.state import State, open_state
from feedback.durable import write_json
from feedback.facts.tables import Batch, Row
from feedback.facts.writer import FactsWriter
from feedback.intake.edge import Record
from feedback.judge import rubric
from feedback.records import JudgeRequest, Unjudged
from feedback.settings import JudgeSettings
from feedback.topics import JUDGE_REQUESTS, TOPICS, VERDICTS
from tests.fakes import CLOCK, ManualClock
from tests.feedback.builders import verdict

QUESTION = JudgeRequest(
    request_id="q",
    tenant="t",
    conversation_id="c",
    turn_id="t1",
    messages=[{"role": "user", "content": "Hi"}],
    reply="r",
)


@pytest.fixture
def state(tmp_path: Path) -> State:
    return open_state(tmp_path / "state")


def judge(**changes: Any) -> JudgeSettings:
    """A judge that there is no money for, so that it is asked nothing."""
    prices = {"usd_per_million_prompt_tokens": 1.0, "usd_per_million_completion_tokens": 1.0, "usd_per_hour": 0.0}
    return JudgeSettings(**{"base_url": "http://127.0.0.1:9/v1", "model": "m"} | prices | changes)


def test_a_log_that_is_opened_has_all_its_topics_in_as_many_partitions_as_are_configured(state: State) -> None:
    log = open_log(state, Settings(broker=BrokerSettings(partitions=3)), CLOCK)
    assert log.topics() == dict.fromkeys(TOPICS, 3)
    log.close()


def test_a_log_that_is_only_looked_at_is_not_made(state: State) -> None:
    log = read_log(state, Settings(), CLOCK)
    assert log.topics() == {}
    log.close()
    assert not state.log.exists()


def test_a_log_that_is_none_is_one_sentence_however_it_is_opened(state: State) -> None:
    state.log.write_bytes(b"something else entirely" * 100)
    for opened in (open_log, read_log, connect_log):
        with pytest.raises(Failed, match=r"log\.db"):
            opened(state, Settings(), CLOCK)


@pytest.mark.parametrize(
    "broker",
    [
        {"security": "sasl", "username": "ann"},
        {"username": "ann"},
        {"ca_file": "ca.pem"},
    ],
    ids=str,
)
def test_settings_of_a_cluster_that_do_not_fit_together_are_one_sentence(state: State, broker: dict[str, Any]) -> None:
    settings = Settings(broker=BrokerSettings.model_validate({"url": "kafka://127.0.0.1:1"} | broker))
    for opened in (open_log, read_log, connect_log):
        with pytest.raises(Failed, match=r"broker\.security is"):
            opened(state, settings, CLOCK)


def test_a_cluster_is_reached_by_all_its_addresses_and_its_password_is_not_shown() -> None:
    broker = {"url": "kafka://a:1,b:2", "security": "sasl+tls", "username": "ann", "password": "hush"}
    access = kafka_access(BrokerSettings.model_validate(broker))
    assert (access.servers, access.username, access.password) == ("a:1,b:2", "ann", "hush")
    assert "hush" not in repr(access)


def test_without_a_judge_nobody_is_asked(control: Control) -> None:
    assert make_ask(JudgeSettings(model="m"), control, CLOCK) is None
    assert make_ask(JudgeSettings(base_url="http://127.0.0.1:9/v1"), control, CLOCK) is None


def test_a_judge_of_which_nobody_knows_what_it_costs_is_not_asked_and_the_log_says_so(
    control: Control, capsys: pytest.CaptureFixture[str]
) -> None:
    assert make_ask(judge(usd_per_million_completion_tokens=None), control, CLOCK) is None
    told = capsys.readouterr().out
    assert "judge_unpriced" in told
    assert "judge.usd_per_million_completion_tokens" in told
    assert make_ask(JudgeSettings(base_url="http://127.0.0.1:9/v1", model="m", free=True), control, CLOCK) is not None


async def test_a_verdict_carries_the_moment_of_the_clock_and_in_a_replay_that_of_the_replay(
    control: Control, clock: ManualClock
) -> None:
    live, replayed = make_ask(judge(), control, clock), make_ask(judge(), control, clock, lambda: 7)
    assert live is not None
    assert replayed is not None
    now, then = await live(QUESTION), await replayed(QUESTION)
    assert isinstance(now, Unjudged)
    assert isinstance(then, Unjudged)
    assert (now.occurred_at_us, then.occurred_at_us) == (clock.now_us(), 7)
    assert then.reason == now.reason == "budget_hour"


@pytest.mark.parametrize("content", [None, b"", b"\xff", "schlüssel".encode()])
def test_a_key_of_the_judge_that_can_not_be_used_is_one_sentence(
    control: Control, tmp_path: Path, content: bytes | None
) -> None:
    file = tmp_path / "key"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(Failed, match="the judge's key"):
        make_ask(judge(api_key_file=file), control, CLOCK)


def test_the_rubric_is_ours_where_none_is_named_and_one_that_can_not_be_read_is_one_sentence(tmp_path: Path) -> None:
    assert load_rubric(JudgeSettings()) == rubric.load(None)
    with pytest.raises(Failed, match=r"mine\.toml"):
        load_rubric(JudgeSettings(rubric=tmp_path / "mine.toml"))


def test_of_several_gateways_only_what_each_of_them_has_proved_is_served(state: State) -> None:
    def note(*adapters: str, **refused: str) -> dict[str, Any]:
        return {"replicas": [{"url": "http://a", "adapters": list(adapters), "refused": refused}], "unusable": {}}

    assert served_there(state) is None
    write_json(state.replicas(1), note("tt-1", "tt-2"))
    with state.play("gateway"):
        assert served_there(state) == note("tt-1", "tt-2")
        with state.play("gateway"):
            assert served_there(state) is None  # it has not said yet
            write_json(state.replicas(2), note("tt-2", **{"tt-1": "proof failed"}))
            assert served_there(state) == note("tt-2", **{"tt-1": "proof failed"})
        assert served_there(state) == note("tt-1", "tt-2")


def test_what_stood_on_the_log_before_there_were_signatures_is_noted_once(state: State) -> None:
    log = open_log(state, Settings(broker=BrokerSettings(partitions=1)), CLOCK)
    log.append([Record(VERDICTS, b"k", b"{}")] * 3)
    before = {(VERDICTS, 0): 3, (JUDGE_REQUESTS, 0): 0}
    row = Row(verdict("v", "t1", score=0.5), "h", "d", 0, 0)
    FactsWriter(state.facts, log.identity, CLOCK).commit([Batch(VERDICTS, 0, (row,), 1)])
    assert unsigned(state, log) == before
    log.append([Record(VERDICTS, b"k", b"{}")] * 3)
    assert unsigned(state, log) == before
    log.close()
    state.log.unlink()
    another = open_log(state, Settings(broker=BrokerSettings(partitions=1)), CLOCK)
    another.append([Record(VERDICTS, b"k", b"{}")] * 3)
    assert set(unsigned(state, another).values()) == {0}


def test_where_no_verdict_was_ever_taken_none_is_without_a_signature(state: State) -> None:
    log = open_log(state, Settings(broker=BrokerSettings(partitions=1)), CLOCK)
    log.append([Record(VERDICTS, b"k", b"{}")] * 3)
    assert set(unsigned(state, log).values()) == {0}
