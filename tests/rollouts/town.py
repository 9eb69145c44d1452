"""A town of scripted people: they chat by the real gateway, rate what they get, and compare replies blindly over HTTP.

What they think depends on who answered, and on a seed. Time is told.
"""

from __future__ import annotations

import asyncio
import json
import random
import shutil
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from deploy.control.store import open_control
from deploy.decisions.watching import Watching
from deploy.gateway.shadowing import ShadowTurns
from deploy.parts import operations
from deploy.roles.controller import watch
from deploy.serving_settings import GatewaySettings, ShadowSettings
from deploy.settings import CompareSettings, GateSettings, RolloutSettings, Settings
from deploy.state import open_state
from deploy.training.train import seal_now
from feedback.facts.reader import Facts
from models.bases import Base, find_base
from models.settings import BaseModelSettings, TinySettings
from tests.deploy.candidates import good_report
from tests.deploy.pairs import stored
from tests.deploy.real_models import make_adapter, make_base
from tests.fakes import ManualClock, until
from tests.whole_service import WholeService, whole_service

DAY_S = 86_400
BLOCKS = 4
"""A day's people come in so many crowds."""

STOPS = list("aeio")
"""The base is of random weights: so its replies end."""


def stages(**changes: Any) -> RolloutSettings:
    """By evidence from the first share to everybody; margins and stages as wide and short as so small a town needs, but for `changes`."""
    fields = {"min_stage_s": DAY_S, "max_stage_s": 40 * DAY_S, "max_error_rise": 0.1, "max_dislike_rise": 0.2}
    return RolloutSettings(shares=(0.2, 0.5, 0.95, 1.0), advance="by evidence", **(fields | changes))


def settings_of(base: Base, gate: GateSettings | None = None, rollout: RolloutSettings | None = None) -> Settings:
    """People are asked about every pair, and every user is copied to the shadow."""
    return Settings(
        base=BaseModelSettings(name=str(base.path), max_length=96),
        gateway=GatewaySettings(max_tokens=12),
        gate=gate or GateSettings(),
        compare=CompareSettings(people=1.0, second=0.0),
        shadow=ShadowSettings(share=1.0, parallel=16, min_s=DAY_S, max_s=30 * DAY_S),
        rollout=rollout or stages(),
    )


class Town:
    """The people, over one service at a time. `disliked` says how often replies by whom are, by name; by others `usual`."""

    def __init__(self, folder: Path, settings: Settings, seed: int, usual: float = 0.1) -> None:
        self.folder, self.settings, self.clock = folder, settings, ManualClock()
        self.disliked: dict[str, float] = {}
        self.preferred = 0.5
        """How often people prefer the candidate's reply in a blind comparison: evenly, so that no test hangs on how many there are."""
        self.days = 0
        self._usual, self._seed = usual, seed
        secret = open_state(folder / "state").root / "secrets" / "edge"
        secret.write_bytes(b"of the town's names, "[:16] * 2)  # so that the same users come to the same arms
        secret.chmod(0o600)
        self._came = self._events = self._compared = 0
        self._service: WholeService | None = None
        self._look_lines = 1_000
        """Of our code that a controller's last look took."""

    @asynccontextmanager
    async def living(self) -> AsyncIterator[WholeService]:
        """The service, started (again) on the same state."""
        async with whole_service(self.folder, self.clock, self.settings, lambda _: None) as service:
            self._service = service
            yield service

    @property
    def service(self) -> WholeService:
        assert self._service is not None
        return self._service

    async def live_a_day(self, users: int) -> None:
        """So many new users chat, each once; some say that they dislike it. All of it is facts in the evening."""
        for crowd in range(BLOCKS):
            many = users // BLOCKS + (crowd < users % BLOCKS)
            await asyncio.gather(*(self._visit() for _ in range(many)))
            await self.service.all_is_facts(self._events)
            await until(lambda: not _copies(), "what is copied to the candidate to be answered")
            await self.clock.live_through(DAY_S / BLOCKS, DAY_S / BLOCKS)
        self.days += 1

    async def _visit(self) -> None:
        self._came += 1
        name = f"user {self._came}"
        chance = random.Random(f"{self._seed} {name}").random()  # whoever else was asked anything before
        body = {
            "model": "trimtab",
            "messages": [{"role": "user", "content": f"Where do I find parcel {self._came}?"}],
            "user": name,
            "metadata": {"conversation_id": f"of {name}"},
            "stop": STOPS,
        }
        answer = (await self.service.chats.post("/v1/chat/completions", json=body)).raise_for_status().json()
        self._events += 1
        if chance < self.disliked.get(answer["system_fingerprint"], self._usual):
            thumb = {"turn_id": answer["id"], "kind": "thumbs", "value": False}
            (await self.service.chats.post("/v1/feedback", json=thumb)).raise_for_status()
            self._events += 1

    async def compare(self, candidate: str) -> int:
        """People label every pair that waits, without being told whose reply is whose; how many they were."""
        labelled = 0
        while (asked := await self.service.chats.get("/v1/label/next")).status_code == 200:
            pair = asked.json()["pair"]
            truth = {one.id: one for one in stored(self.service.control, candidate)}
            ours_first = pair["first"] == truth[pair["id"]].candidate_reply
            self._compared += 1
            likes_ours = round(self._compared * self.preferred) > round((self._compared - 1) * self.preferred)
            said = {"id": pair["id"], "answer": "first" if ours_first == likes_ours else "second"}
            (await self.service.chats.post("/v1/label", json=said)).raise_for_status()
            labelled += 1
        return labelled

    async def candidate(self, digest: str) -> dict[str, Any]:
        return dict((await self.service.admin.get(f"/admin/v1/candidates/{digest}")).raise_for_status().json())

    async def status(self) -> dict[str, Any]:
        return dict((await self.service.admin.get("/admin/v1/rollout")).raise_for_status().json())

    async def approve(self, digest: str) -> None:
        """By the evidence as it is sealed: nothing is overridden."""
        seal = (await self.candidate(digest))["evidence"]
        yes = {"evidence": seal, "reason": "it won, blindly"}
        (await self.service.admin.post(f"/admin/v1/candidates/{digest}/approve", json=yes)).raise_for_status()

    def steps(self, digest: str) -> list[tuple[str, str]]:
        """What was done with it since its approval, and by whom, in order."""
        rules = operations(self.service.state, self.settings, self.service.control, self.clock)
        told = [(entry["action"], entry["actor"]) for entry in rules.history(200, digest)]
        return [one for one in reversed(told) if one[0] in ("promote", "rollback", "pause", "resume")]

    def killed_controller(self, chance: random.Random) -> bool:
        """Another controller, killed at a line drawn from as many as the last one took that lived; whether it came so far."""
        return not self.another_controller(dies_after=chance.randrange(20, self._look_lines))

    def another_controller(self, dies_after: int | None = None) -> bool:
        """A second controller looks and acts, beside the service's own; whether it lived. `dies_after`: lines of our code."""
        control = open_control(self.service.state.control)
        try:
            rules = operations(self.service.state, self.settings, control, self.clock)
            watching = Watching(control, Facts(self.service.state.facts), lambda: self.settings, self.clock)
            counted = _Lines(dies_after)
            sys.settrace(counted.trace)
            watch(watching, rules)
            self._look_lines = max(counted.lines, 100)
            return True
        except Killed:
            return False
        finally:
            sys.settrace(None)
            control.close()


def _copies() -> list[asyncio.Task[Any]]:
    """Turns on their way through a candidate in the shadow; time does not go on meanwhile."""
    return [task for task in asyncio.all_tasks() if task.get_coro().__qualname__ == ShadowTurns._copy.__qualname__]  # type: ignore[union-attr]


class Killed(BaseException):
    """Nobody catches it: what was not committed is gone, as when the process is."""


class _Lines:
    """Counts the lines of our code that are run, and dies after so many."""

    def __init__(self, most: int | None) -> None:
        self.lines, self._most = 0, most

    def trace(self, frame: FrameType, event: str, _: object) -> Any:
        if "/deploy/" not in frame.f_code.co_filename:
            return None
        self.lines += event == "line"
        if self._most is not None and self.lines > self._most:
            sys.settrace(None)
            raise Killed
        return self.trace


def base_in(folder: Path) -> Base:
    """The town's base."""
    made = make_base(folder)
    base = find_base(BaseModelSettings(name=str(made.path)), TinySettings(), folder)
    assert base is not None
    return base


def trained(base: Base, town: Town, seed: int, **changes: Any) -> str:
    """A real adapter of random weights for which a snapshot of the facts was sealed, whose report is good but for `changes`;
    its digest."""
    state = town.service.state
    sealed = seal_now(state, town.settings, town.clock.now_us())
    apart = state.root / f"made-{seed}"
    apart.mkdir()
    digest = make_adapter(base, apart, seed=seed)
    report = apart / digest / "report.json"
    learned = {"snapshot": sealed.name, "dataset_hash": sealed.dataset_hash}
    good = good_report(probes=json.loads(report.read_bytes())["probes"], **learned, **changes)
    report.write_text(json.dumps({"digest": digest} | good))
    shutil.move(apart / digest, state.candidates / digest)
    return digest
