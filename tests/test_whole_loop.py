"""The whole loop as people run it: recorded chats, a training, a person's yes, and a chat endpoint that serves it."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count, takewhile
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from deploy.settings import load_settings
from feedback.dataset import census
from feedback.facts.reader import Facts
from feedback.labels import exchanges
from feedback.records import Verdict
from models.bases import Base, find_base
from tests.dashboards.conftest import Target, running_prometheus, wait_for
from tests.dashboards.test_overview import QUERIES
from tests.deploy.commands import SAMPLE, answer, environment, free_ports, trimtab
from tests.judge_server import JudgeServer, judge_server, scores, winner

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("whole loop")]

SMALL = """
[window]
max_age_s = 3_000_000_000
[base]
name = "tiny"
[tiny]
vocabulary = 400
layers = 2
width = 64
steps = 60
batch_tokens = 600
[reward]
max_labels = 200
epochs = 1
[policy]
max_examples = 100
epochs = 1
best_of_prompts = 16
sample_tokens = 12
"""
QUESTION: Any = [{"role": "user", "content": "Where is my order?"}]
ROLES = ("controller", "gateway", "worker", "trainer")
REASON = "the samples read well"


@dataclass(frozen=True)
class Loop:
    """A state directory in which the sample was replayed, and the candidate that came of it."""

    root: Path
    candidate: dict[str, Any]

    @property
    def digest(self) -> str:
        return str(self.candidate["digest"])

    @property
    def base(self) -> Base:
        settings = load_settings(self.root / "trimtab.toml")
        found = find_base(settings.base, settings.tiny, self.state)
        assert found is not None
        return found

    @property
    def state(self) -> Path:
        return self.root / ".trimtab"

    def ask(self, *arguments: str) -> Any:
        return answer(*arguments, cwd=self.root)


@dataclass(frozen=True)
class Service:
    """A running `trimtab up` whose rollout has reached everybody."""

    chat: str
    metrics: dict[str, str]
    stages: list[dict[str, Any]]


@pytest.fixture(scope="module")
def loop(tmp_path_factory: pytest.TempPathFactory) -> Loop:
    root = tmp_path_factory.mktemp("loop")
    (root / "trimtab.toml").write_text(SMALL)
    done = trimtab("replay", SAMPLE, cwd=root)
    assert done.returncode == 0, done.stderr
    (candidate,) = answer("candidates", cwd=root)
    return Loop(root, candidate)


@pytest.fixture(scope="module")
def service(loop: Loop) -> Iterator[Service]:
    loop.ask("approve", loop.digest, "--evidence", loop.candidate["evidence"], "--override-hold", "--reason", REASON)
    port = free_ports(5)
    command = [sys.executable, "-P", "-m", "deploy.cli", "up", "--json"]
    command += ["--port", f"{port}", "--admin-port", f"{port + 1}"]
    with (
        judge_server(verdict) as judge,
        (loop.root / "up.log").open("w+") as log,
        subprocess.Popen(
            command, cwd=loop.root, env=environment(**judged_by(judge)), stdout=subprocess.PIPE, stderr=log, text=True
        ) as process,
    ):
        try:
            assert process.stdout is not None
            document = "".join(takewhile(lambda line: line != "}\n", process.stdout)) + "}"
            assert process.poll() is None, (loop.root / "up.log").read_text()
            addresses = json.loads(document)
            stages: list[dict[str, Any]] = []
            while not stages or stages[-1]["rollout"]:
                stages.append(loop.ask("promote", "--override-hold", "--reason", "all is quiet"))
            yield Service(addresses["chat"], addresses["metrics"], stages)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)
    logged = (loop.root / "up.log").read_text()
    assert process.returncode == 0, logged
    assert all(json.loads(line)["event"] for line in logged.splitlines()), "no library's banner"
    assert sorted(path.name for path in loop.root.iterdir()) == [".trimtab", "trimtab.toml", "up.log"]


def verdict(question: dict[str, Any]) -> Any:
    """Five for a single reply, the first of two."""
    single = "scores" in question["response_format"]["json_schema"]["schema"]["properties"]
    return (scores(5) if single else winner("1"))(question)


def judged_by(judge: JudgeServer) -> dict[str, str]:
    prefix = "TRIMTAB_JUDGE__"
    return {f"{prefix}BASE_URL": judge.url, f"{prefix}MODEL": "judge", f"{prefix}FREE": "true", f"{prefix}GRACE_S": "1"}


@pytest.fixture(scope="module")
def client(service: Service) -> openai.OpenAI:
    return openai.OpenAI(base_url=service.chat, api_key="none", max_retries=0)


@pytest.fixture(scope="module")
def turn_id(service: Service) -> str:
    """A turn that `curl` had, in a conversation of its own."""
    body = {"model": "trimtab", "messages": QUESTION, "max_tokens": 8}
    header = "Content-Type: application/json"
    command = ["curl", "-sS", f"{service.chat}/chat/completions", "-H", header, "-d", json.dumps(body)]
    reply = json.loads(subprocess.run(command, capture_output=True, check=True, timeout=60).stdout)
    return str(reply["id"])


def test_what_was_replayed_is_nothing_new_to_a_training_later_on(loop: Loop) -> None:
    again = loop.ask("train")
    assert (again["trained"], again["digest"]) == (False, loop.digest)
    assert len(list((loop.state / "snapshots").glob("[!.]*"))) == 2, "another moment, and the same rows"


def test_the_gate_holds_for_want_of_comparisons_and_only_an_override_with_a_reason_passes_it(loop: Loop) -> None:
    gate = loop.candidate["gate"]
    assert gate["decision"] == "hold"
    assert "too_few_comparisons" in gate["codes"]
    assert re.search(r"blind comparisons: 0 of \d+ pairs count, .* \d+ wait for people", "\n".join(gate["reasons"]))
    assert "length_unknown" in gate["codes"], "twelve tokens cut most replies off"
    refused = trimtab(
        "approve", loop.digest, "--evidence", loop.candidate["evidence"], "--reason", REASON, cwd=loop.root
    )
    assert refused.returncode != 0
    assert "--override-hold" in refused.stderr


def test_a_promotion_at_a_time_ends_at_everybody_and_is_remembered(loop: Loop, service: Service) -> None:
    assert [stage["rollout"]["share"] for stage in service.stages[:-1]] == [0.05, 0.25, 0.5, 0.95]
    assert service.stages[-1]["incumbent"] == loop.digest
    history = loop.ask("show", loop.digest)["history"]
    assert REASON in json.dumps(history)


def test_the_one_address_says_how_every_role_is(service: Service) -> None:
    answer = httpx.get(service.chat.removesuffix("/v1") + "/readyz", timeout=60)
    assert answer.json() == {
        "status": "ready",
        "duties": {"chat": "ready", "intake": "ready"},
        "roles": {"controller": "ready", "trainer": "ready", "worker": "ready"},
    }


def test_an_unmodified_client_is_answered_through_the_adapter(loop: Loop, client: openai.OpenAI) -> None:
    def ask() -> Any:
        return client.chat.completions.create(model="trimtab", messages=QUESTION, max_tokens=8, temperature=0)

    wait_for(lambda: ask().system_fingerprint == loop.digest, "the gateway to hear of the last promotion")
    whole = ask()
    chunks = list(
        client.chat.completions.create(model="trimtab", messages=QUESTION, max_tokens=8, temperature=0, stream=True)
    )
    assert {whole.system_fingerprint, *(chunk.system_fingerprint for chunk in chunks)} == {loop.digest}
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == whole.choices[0].message.content


def test_what_curl_asked_comes_back_through_the_log(loop: Loop, turn_id: str) -> None:
    def served() -> list[str]:
        return [turn.policy for turn, _ in Facts(loop.state / "facts").turns() if turn.turn_id == turn_id]

    wait_for(lambda: bool(served()), "the turn among the facts")
    assert served() == [loop.digest]


def test_a_thumb_with_nothing_but_its_turn_id_is_joined(loop: Loop, service: Service, turn_id: str) -> None:
    thumb = {"turn_id": turn_id, "kind": "thumbs", "value": True}
    posted = httpx.post(f"{service.chat}/feedback", json=thumb)
    assert posted.status_code == 202, posted.text

    def labels() -> list[Any]:
        facts = Facts(loop.state / "facts")
        said = exchanges.said(facts.ratings(), [], census.take(facts.turns()).known, 2**62)
        return [rating for (*_, rated), ratings in said.ratings.items() if rated == turn_id for rating in ratings]

    wait_for(lambda: bool(labels()), "the thumb at its turn")
    assert [(rating.kind, rating.value) for rating in labels()] == [("thumbs", True)]


def test_a_turn_that_nobody_rates_is_judged_after_its_grace_period(loop: Loop, client: openai.OpenAI) -> None:
    def reply(place: str) -> Any:
        once: Any = [{"role": "user", "content": f"Do you ship to {place}?"}]
        return client.chat.completions.create(model="trimtab", messages=once, max_tokens=200)

    # one that was cut is no whole reply, and is not judged
    asked = next(
        it for it in map(reply, ("Lyon", "Bern", "Oslo", "Rome", "Kyiv")) if it.choices[0].finish_reason == "stop"
    )

    def verdicts() -> list[Verdict]:
        found = Facts(loop.state / "facts").verdicts()
        return [verdict for verdict in found if isinstance(verdict, Verdict) and verdict.turn_id == asked.id]

    wait_for(lambda: bool(verdicts()), "the verdict among the facts")
    assert len(verdicts()) == 1


def test_an_adapter_that_changes_nothing_is_rejected_by_name(loop: Loop, service: Service) -> None:
    from tests.deploy.real_models import make_adapter

    digest = make_adapter(loop.base, loop.state / "candidates", moved=False)
    shown = loop.ask("show", digest)
    assert shown["gate"]["decision"] == "reject"
    assert shown["gate"]["reasons"][0].startswith("no-op: the adapter moves no probe by more than 0 nats")
    refused = trimtab(
        "approve", digest, "--evidence", shown["evidence"], "--override-hold", "--reason", "x", cwd=loop.root
    )
    assert refused.returncode != 0
    assert "gate rejected" in refused.stderr


QUIET = {"Alerts A", "Dead letters A", "Dead letters B", "annotation Rollbacks"} | {
    f"{panel} A"
    for panel in (
        *("Verdict", "Users in the rollout", "Bad outcomes after three days", "Evidence of harm"),
        "Evidence against the draw",
    )
}
"""`where` of the queries without data here, where nothing goes wrong and no rollout is under way."""


def test_the_dashboard_shows_this_service(service: Service, client: openai.OpenAI, tmp_path: Path) -> None:
    targets = [Target(role, service.metrics[role].split("/")[2]) for role in ROLES]
    numbers = count()

    def empty() -> set[str]:
        """Queries without data, after one more chat."""
        another: Any = [{"role": "user", "content": f"Where is order {next(numbers)}?"}]
        client.chat.completions.create(model="trimtab", messages=another, max_tokens=200)
        found = {query.where for query in QUERIES if not server.query(query.expr)}
        print(sorted(found - QUIET))  # shown when the test fails
        return found

    with running_prometheus(targets, tmp_path) as server:
        wait_for(lambda: empty() <= QUIET, f"data for all but {sorted(QUIET)}")
