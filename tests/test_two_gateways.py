"""Several gateways on one state directory: processes of their own, as docs/operate.md starts them, before somebody's engine.

Whichever is asked, it is one service: what one has answered is rated at the other, and what one took is not lost when it is
killed.
"""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from deploy.control.store import open_control
from deploy.decisions.operations import Operations
from deploy.gateway.orphans import waiting
from deploy.parts import engines_differ
from deploy.settings import Settings
from deploy.state import State, open_state
from feedback.dataset import census
from feedback.facts.reader import Facts
from feedback.labels import exchanges
from models.bases import describe
from tests.dashboards.conftest import wait_for
from tests.deploy.commands import environment, free_ports
from tests.fakes import CLOCK, DEADLINE_S, until
from tests.own_engine import MODEL, own_engine

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("whole loop")]

ENOUGH = 25
"""Answers of each gateway before something happens to one, and after."""
PEOPLE = 4
READY_WITHIN_S = 240.0
"""The local engine's libraries take a minute to load where others want the same two cores."""


@dataclass
class Service:
    """The roles as processes of their own; gateway 1 and 2 on ports of their own. What runs yet at the end is killed."""

    root: Path
    chats: tuple[str, ...]
    """How a gateway is told which engine to ask."""
    settings: dict[str, str] = field(default_factory=dict)
    port: int = field(default_factory=lambda: free_ports(6))
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def state(self) -> State:
        return open_state(self.root / "state")

    @property
    def facts(self) -> Facts:
        return Facts(self.state.facts)

    def url(self, number: int) -> str:
        return f"http://127.0.0.1:{self.port + 2 * number}"

    def start(self, role: str, *arguments: str, name: str | None = None) -> None:
        command = [sys.executable, "-P", "-m", "deploy.cli", role, "--state", str(self.root / "state"), *arguments]
        with (self.root / f"{name or role}.log").open("ab") as log:
            self.processes[name or role] = subprocess.Popen(
                command, cwd=self.root, env=environment(**self.settings), stdout=log, stderr=log
            )

    def gateway(self, number: int) -> subprocess.Popen[bytes]:
        """Start this one."""
        port = self.port + 2 * number
        ports = ("--port", f"{port}", "--admin-port", f"{port + 1}")
        self.start("gateway", *ports, *self.chats, name=f"gateway {number}")
        return self.processes[f"gateway {number}"]

    def others(self) -> None:
        """Start the other roles, once."""
        self.start("worker", "--admin-port", "0")
        self.start("controller", "--admin-port", f"{self.port + 1}")

    def ready(self, *numbers: int) -> None:
        """Once these gateways answer chats."""
        for number in numbers:
            url, name = self.url(number), f"gateway {number}"
            wait_for(lambda url=url: _ready(url), name, READY_WITHIN_S)  # type: ignore[misc]

    def turns(self) -> Counter[str]:
        """How often each turn with a reply is among the facts."""
        return Counter(turn.turn_id for turn, _ in self.facts.turns() if turn.outcome == "ok")

    def log(self, name: str) -> str:
        return (self.root / f"{name}.log").read_text()


def _ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/readyz?duty=chat", timeout=DEADLINE_S).status_code == 200
    except httpx.TransportError:
        return False


@contextmanager
def service(root: Path, *chats: str, **settings: str) -> Iterator[Service]:
    made = Service(root, chats, settings)
    try:
        yield made
    finally:
        for process in made.processes.values():
            process.kill()
            process.wait()


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Two gateways before one engine, and the other roles once."""
    with (
        own_engine() as engine,
        service(tmp_path_factory.mktemp("two"), "--engine", engine.url, "--model", MODEL) as made,
    ):
        made.others()
        for number in (1, 2):
            made.gateway(number)
        made.ready(1, 2)
        yield made


def chat(url: str, words: str = "Where is my order?", **more: Any) -> dict[str, Any]:
    asked = {"model": "trimtab", "messages": [{"role": "user", "content": words}], **more}
    answer = httpx.post(f"{url}/v1/chat/completions", json=asked, timeout=DEADLINE_S)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def test_every_turn_that_either_has_answered_is_among_the_facts_once(two: Service) -> None:
    answered = [str(chat(two.url(1 + at % 2), f"Where is order {at}?")["id"]) for at in range(20)]
    wait_for(lambda: set(answered) <= two.turns().keys(), "all turns among the facts")
    found = two.turns()
    assert {turn_id: found[turn_id] for turn_id in answered} == dict.fromkeys(answered, 1)


def test_what_one_has_answered_is_rated_at_the_other_and_becomes_a_label(two: Service) -> None:
    turn_id = chat(two.url(1), "Can I send it back?")["id"]
    thumb = {"turn_id": turn_id, "kind": "thumbs", "value": False}
    assert httpx.post(f"{two.url(2)}/v1/feedback", json=thumb, timeout=DEADLINE_S).status_code == 202

    def labels() -> list[Any]:
        known = census.take(two.facts.turns()).known
        said = exchanges.said(two.facts.ratings(), [], known, 2**62)
        return [rating for (*_, rated), ratings in said.ratings.items() if rated == turn_id for rating in ratings]

    wait_for(lambda: bool(labels()), "the thumb at its turn")
    assert [(rating.kind, rating.value) for rating in labels()] == [("thumbs", False)]


async def test_one_that_is_killed_under_load_loses_nothing_that_it_has_answered_and_the_other_goes_on(
    two: Service,
) -> None:
    answered: dict[int, list[str]] = {1: [], 2: []}
    stopping = asyncio.Event()
    async with httpx.AsyncClient(timeout=DEADLINE_S) as client:
        people = [
            asyncio.create_task(_person(two, client, number % 2 + 1, answered, stopping)) for number in range(PEOPLE)
        ]
        await until(lambda: all(len(turns) >= ENOUGH for turns in answered.values()), "answers of both")
        two.processes["gateway 1"].send_signal(signal.SIGKILL)
        before = len(answered[2])
        await until(lambda: len(answered[2]) >= before + ENOUGH, "the other to go on")
        stopping.set()
        await asyncio.gather(*people)
    two.processes["gateway 1"].wait()
    assert two.processes["gateway 2"].poll() is None, two.log("gateway 2")
    wanted = {turn_id for turns in answered.values() for turn_id in turns}
    wait_for(lambda: wanted <= two.turns().keys(), "all that was answered among the facts, sent by the other")
    wait_for(lambda: waiting(two.state) == {}, "nothing left in the spool")
    two.gateway(1)
    two.ready(1)
    found = two.turns()
    assert {turn_id: found[turn_id] for turn_id in answered[2]} == dict.fromkeys(answered[2], 1)
    assert _distinct(two.facts) == len({turn.turn_id for turn, _ in two.facts.turns()}), "what came twice counts once"


def _distinct(facts: Facts) -> int:
    return len(census.take(facts.turns()))


async def _person(
    two: Service, client: httpx.AsyncClient, number: int, answered: dict[int, list[str]], stopping: asyncio.Event
) -> None:
    """Asks one gateway after another question; where it is gone, the other, as a load balancer has it."""
    asked = {"model": "trimtab", "messages": [{"role": "user", "content": "Hello?"}]}
    while not stopping.is_set():
        try:
            answer = await client.post(f"{two.url(number)}/v1/chat/completions", json=asked)
        except httpx.TransportError:
            number = 2
            continue
        assert answer.status_code == 200, answer.text
        answered[number].append(str(answer.json()["id"]))


def test_commands_know_that_gateways_run_whichever_of_them_it_is(two: Service) -> None:
    """The engine that is in use is theirs."""
    assert two.state.played("gateway")
    assert sum(map(two.state.seated, two.state.seats())) == 2
    assert engines_differ(two.state) is None


def test_one_that_is_stopped_leaves_the_other(two: Service) -> None:
    stopped = two.processes["gateway 1"]
    last = chat(two.url(1), "One more thing.")["id"]
    stopped.send_signal(signal.SIGTERM)
    assert stopped.wait(DEADLINE_S) == 0, two.log("gateway 1")
    assert chat(two.url(2))["choices"]
    assert two.state.played("gateway")
    wait_for(lambda: last in two.turns(), "its last turn among the facts")


def test_one_that_asks_another_engine_says_so_and_names_both(two: Service) -> None:
    port = free_ports(2)
    ports = ("--port", f"{port}", "--admin-port", f"{port + 1}")
    two.start("gateway", *ports, "--engine", "http://127.0.0.1:9/v1", "--model", "another", name="odd")
    wait_for(lambda: "engines_differ" in two.log("odd"), "its word")
    assert "another at http://127.0.0.1:9/v1" in two.log("odd")
    assert f"asks {MODEL} at" in two.log("odd")


def test_both_give_a_user_the_same_arm_and_both_hear_of_a_halt(tmp_path: Path) -> None:
    """With adapters: a base of random weights in each gateway's own process."""
    import torch

    from tests.deploy.real_models import make_adapter, make_base

    torch.set_num_threads(1)
    base = make_base(tmp_path)
    base = describe(Path(base.path), Path(base.path).name)  # as the gateways call it
    local = {"TRIMTAB_BASE__NAME": base.path, "OMP_NUM_THREADS": "1"}
    with service(tmp_path, **local) as both, ExitStack() as stack:
        control = open_control(both.state.control)
        stack.callback(control.close)
        rules = Operations(control, Settings, both.state.candidates, CLOCK)
        digest = make_adapter(base, both.state.candidates)
        _canary(rules, digest)
        for number in (1, 2):
            both.gateway(number)
        both.ready(1, 2)
        arms = _arms(both, 1)
        assert {user: _arm(both, 2, user) for user in arms} == arms
        user = next(user for user, arm in arms.items() if arm == digest)
        rules.halt(actor="ada", reason="it swears")
        began_s = time.monotonic()
        _until_all_say(both, user, "base")
        print(f"both have halted after {time.monotonic() - began_s:.1f} s")
        rules.resume(actor="ada")
        _until_all_say(both, user, digest)
        rules.rollback(actor="ada", reason="it mumbles")
        _until_all_say(both, user, "base")


def _canary(rules: Operations, digest: str) -> None:
    rules.register(digest)
    evidence = rules.show(digest)["evidence"]
    rules.approve(digest, evidence=evidence, reason="reads well", actor="ada", override_hold=True)
    while rules.serving()["rollout"]["share"] < 0.5:
        rules.promote(actor="ada")


def _arms(both: Service, number: int) -> dict[str, str]:
    """Users with what answers them, once some are on either side."""
    arms: dict[str, str] = {}
    while len(set(arms.values())) < 2 or len(arms) < 8:
        assert len(arms) < 100, "all on one side"
        user = f"user {len(arms)}"
        arms[user] = _arm(both, number, user)
    return arms


def _arm(both: Service, number: int, user: str) -> str:
    words = f"Hello, this is {user} at {number}."  # another conversation at each
    return str(chat(both.url(number), words, user=user, max_tokens=2)["system_fingerprint"])


def _until_all_say(both: Service, user: str, arm: str) -> None:
    numbers: Sequence[int] = (1, 2)
    wait_for(lambda: all(_arm(both, number, user) == arm for number in numbers), f"{arm[:8]} at both")
