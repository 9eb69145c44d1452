"""Three weeks of the whole service in one process, on a clock that is told: chats, ratings, trainings, a person's yes.

All of it is the service's own, but for the hours of training: a stand-in writes a real adapter of random weights.
"""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest
from sqlalchemy import select

from deploy.control import schema
from deploy.control.store import Control
from deploy.serving_settings import GatewaySettings
from deploy.settings import ApproveSettings, RolloutSettings, Settings, TrainSettings
from deploy.training.job import Job, Progress
from feedback.clock import Clock
from models.bases import find_base
from models.settings import BaseModelSettings, TinySettings
from models.spec import TrainingSpec
from tests.fakes import ManualClock
from tests.whole_service import WholeService, whole_service

pytestmark = pytest.mark.slow

DAYS, DAY_S, STEP_S = 21, 86_400, 21_600
BUSY_DAYS = 9
RATED = {True: 12, False: 2}
"""Replies that people rate in a day: of the first days, which are busy, and of the others."""
UNRATED = 2
SHARES = (0.3, 0.6, 1.0)
REGULAR = "the conversation that comes back each day"
WORDS = "order parcel refund invoice coupon size colour delivery address receipt return gift account password card"


@dataclass
class Told:
    """What people saw: the turns by day, and how each was answered."""

    turns: dict[str, int] = field(default_factory=dict)
    rated: list[str] = field(default_factory=list)
    answered: dict[int, Counter[str]] = field(default_factory=dict)
    shared: dict[str, set[str]] = field(default_factory=dict)
    """Who answered each conversation while there were two arms."""


class People:
    """The people who use the service, and the one who decides."""

    def __init__(self, service: WholeService) -> None:
        self._service, self.told = service, Told()
        self._chance = random.Random(21)

    async def chat(self, day: int, conversation: str, shared: bool) -> str:
        words = " ".join(self._chance.sample(WORDS.split(), 4))
        body = {
            "model": "trimtab",
            "messages": [{"role": "user", "content": f"Where do I find the {words} of day {day}?"}],
            "user": conversation,
            "metadata": {"conversation_id": conversation},
        }
        answer = (await self._service.chats.post("/v1/chat/completions", json=body)).raise_for_status().json()
        self.told.turns[answer["id"]] = day
        self.told.answered.setdefault(day, Counter())[answer["system_fingerprint"]] += 1
        if shared:
            self.told.shared.setdefault(conversation, set()).add(answer["system_fingerprint"])
        return str(answer["id"])

    async def rate(self, turn: str, up: bool) -> None:
        thumb = {"turn_id": turn, "kind": "thumbs", "value": up}
        (await self._service.chats.post("/v1/feedback", json=thumb)).raise_for_status()
        self.told.rated.append(turn)

    async def live(self, day: int, shared: bool) -> None:
        """One day's chats, and what is said of them; all of it is facts when this returns."""
        rated = RATED[day <= BUSY_DAYS]
        names = [REGULAR, *(f"conversation {day}-{number}" for number in range(rated + UNRATED))]
        turns = await asyncio.gather(*(self.chat(day, name, shared) for name in names))
        # this base's replies never end: they are cut, and of those only what people dislike is learned from
        await asyncio.gather(*(self.rate(turn, False) for turn in turns[-rated:]))
        await self._service.all_is_facts(len(self.told.turns) + len(self.told.rated))

    async def approve(self, digest: str) -> None:
        admin = self._service.admin
        evidence = (await admin.get(f"/admin/v1/candidates/{digest}")).raise_for_status().json()["evidence"]
        yes = {"evidence": evidence, "reason": "reads well", "override_hold": True}
        (await admin.post(f"/admin/v1/candidates/{digest}/approve", json=yes)).raise_for_status()

    async def promote(self) -> httpx.Response:
        return await self._service.admin.post(
            "/admin/v1/promote", json={"reason": "all is quiet", "override_hold": True}
        )


@asynccontextmanager
async def service(folder: Path, clock: ManualClock) -> AsyncIterator[WholeService]:
    from tests.deploy.real_models import make_adapter, make_base

    base_path = Path(make_base(folder).path)
    settings = Settings(
        base=BaseModelSettings(name=str(base_path), max_length=96),
        train=TrainSettings(
            every_s=5 * DAY_S, min_new_human_labels=30, min_new_verdicts=0, min_labels=20, check_every_s=3_600
        ),
        approve=ApproveSettings(expires_s=2 * DAY_S),
        rollout=RolloutSettings(shares=SHARES),
        gateway=GatewaySettings(max_tokens=4),
    )
    base = find_base(settings.base, TinySettings(), folder)
    assert base is not None

    def training(control: Control) -> Job:
        def train(spec: TrainingSpec, _: float, __: Progress, ___: Clock, ____: threading.Event | None) -> Path:
            candidates = Path(spec.state) / "candidates"
            return candidates / make_adapter(base, candidates, seed=len(control.trainings.list()))

        return train

    async with whole_service(folder, clock, settings, training) as running:
        yield running


def rule_says() -> list[int]:
    """The days on which the rules want a training: no training yet, 30 new labels, or five days and any."""
    days: list[int] = []
    new = labels = 0
    for day in range(1, DAYS + 1):
        new, labels = new + RATED[day <= BUSY_DAYS], labels + RATED[day <= BUSY_DAYS]
        if labels >= 20 and (new >= 30 or not days or day - days[-1] >= 5):
            days.append(day)
            new = 0
    return days


async def test_three_weeks_of_the_service(tmp_path: Path) -> None:
    began_s, clock = time.perf_counter(), ManualClock()
    began_us = clock.now_us()

    def day_of(at_us: int) -> int:
        return 1 + int((at_us - began_us) / 1e6 // DAY_S)

    first_day, *_ = due = rule_says()
    yes = first_day + 1
    again = yes + 3
    steps = {again: SHARES[0], again + 2: SHARES[1], again + 4: SHARES[2]}
    full_day = again + 4
    digest = refused = ""
    async with service(tmp_path, clock) as running:
        people = People(running)
        for day in range(1, DAYS + 1):
            until_day_s = (day - 1) * DAY_S - clock.monotonic_s()
            if until_day_s > 0:
                await clock.live_through(until_day_s, STEP_S)
            if day == yes:
                (training,) = running.control.trainings.list()
                digest = str(training.candidate)
                await people.approve(digest)
            if day == again:
                late = await people.promote()
                refused = late.json()["error"]["message"]
                assert late.status_code == 409
                await people.approve(digest)
            if day in steps:
                (await people.promote()).raise_for_status()
                await clock.live_through(2, 1)  # the engine follows the routing
            await people.live(day, shared=again <= day < full_day)
        await clock.live_through(DAY_S, STEP_S)
        told = people.told
        trainings = running.control.trainings.list()[::-1]
        turns, ratings = running.facts("turns"), running.facts("ratings")
        happened = running.control.history()[::-1]
        with running.control.database.read() as connection:
            assigned = list(connection.execute(select(schema.assignments)))
        serving = running.control.routing()

    assert sorted(turns) == sorted(told.turns)
    assert sorted(ratings) == sorted(told.rated)

    assert [(day_of(training.started_at_us), training.outcome) for training in trainings] == [
        (day, "done") for day in due
    ]
    assert len({training.candidate for training in trainings}) == len(due)

    assert f"the approval of {digest[:12]} has expired" in refused
    moves = [
        (day_of(entry.at_us), entry.action, entry.after, (entry.data or {}).get("share"))
        for entry in happened
        if entry.subject == digest
    ]
    assert moves == [
        (first_day, "register", "trained", None),
        (first_day, "decide", "held", None),
        (first_day, "shadow", "shadow", None),  # nothing but comparisons is missing
        (yes, "approve", "approved", 0.0),
        (yes, "shadow", "approved", None),  # which ends its shadow
        (again, "approve", "approved", 0.0),
        (again, "promote", "canary", SHARES[0]),
        (again + 2, "promote", "canary", SHARES[1]),
        (full_day, "promote", "full", SHARES[2]),
    ]
    assert serving.incumbent == digest
    assert serving.rollout_id is None

    for day, answered in told.answered.items():
        by = {"base"} if day < again else {digest} if day >= full_day else {"base", digest}
        assert set(answered) <= by, day
    arms = {row.conversation_id: {digest if row.arm == "candidate" else "base"} for row in assigned}
    assert arms == told.shared  # also of the conversation that came back each day
    assert len(told.shared) == len(assigned)
    assert {row.arm for row in assigned} == {"candidate", "incumbent"}
    assert {row.share for row in assigned} == {0.3, 0.6}
    print(f"\n{DAYS} days in {time.perf_counter() - began_s:.1f} s: {len(turns)} turns, {len(trainings)} trainings")
