"""Users of an engine who know what each model says to each question when nothing else goes on, and check every reply."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Literal

import aiohttp

from deploy.engine.port import Answer, ChatRequest, EngineFailed, NotReady
from deploy.engine.remote.answer import Patience
from deploy.engine.vllm.engine import VllmEngine
from deploy.engine.vllm.files import Files
from deploy.engine.vllm.neighbours import Neighbours
from deploy.engine.vllm.plan import ZERO
from deploy.engine.vllm.replica import Replica
from deploy.rules.assignment import Routing
from deploy.state import State
from models.adapters import engine_name
from tests.deploy.engine.replies import Desk
from tests.engine.conftest import Trained
from tests.engine.server import SERVED_AS, SLOTS, Vllm
from tests.fakes import CLOCK

QUESTIONS = (
    "Hello, where is my parcel?",
    "I want my money back.",
    "How do I change my address?",
    "My invoice is wrong, can you help me?",
)
USERS = 8
PAUSE_S = 0.05
"""Before who was told to come back does so."""
PROVED_WITHIN_S = 300.0
"""A proof is more than a thousand requests: seconds, and a minute where five others use the machine."""

Truth = dict[tuple[str | None, str], str]
"""Replies by adapter (None: the base) and question."""


def made(
    servers: Sequence[Vllm],
    trained: Trained,
    desk: Desk,
    folder: Path,
    chat: Literal["templated", "always"] = "templated",
) -> VllmEngine:
    """An engine on these servers, not yet started."""
    return VllmEngine(
        [f"{server.url}/v1" for server in servers],
        {"trimtab": SERVED_AS},
        None,
        Patience(60, 60),
        100,
        CLOCK,
        slots=SLOTS,
        base=trained.base,
        candidates=trained.candidate.parent,
        files=Files(folder, folder),
        router=desk,
        neighbours=Neighbours(State(folder.parent / "state"), 1),
        chat=chat,
    )


@asynccontextmanager
async def engine(
    servers: Sequence[Vllm],
    trained: Trained,
    desk: Desk,
    folder: Path,
    chat: Literal["templated", "always"] = "templated",
) -> AsyncIterator[VllmEngine]:
    """An engine on these servers that has begun to look; its adapters are unloaded after it."""
    looking = made(servers, trained, desk, folder, chat)
    await looking.start()
    try:
        yield looking
    finally:
        await looking.stop()
        async with aiohttp.ClientSession() as session:
            for server in servers:
                if server.process.poll() is None:
                    await unload(Replica(session, server.url, CLOCK))


async def unload(replica: Replica) -> None:
    """All adapters but what stands in for the base: its being there says that others were."""
    for name in await replica.models():
        if name != SERVED_AS and not name.startswith(ZERO):
            await replica.unload(name)


async def proved(engine: VllmEngine, digest: str) -> float:
    """Wait until every server serves this adapter, and the base by what stands in for it; how long it took, seconds."""
    began_s, wanted = CLOCK.monotonic_s(), [engine_name(digest)]
    while not all(one["adapters"] == wanted and str(one["base"]).startswith(ZERO) for one in engine.state()):
        assert CLOCK.monotonic_s() < began_s + PROVED_WITHIN_S, engine.state()
        await CLOCK.sleep(PAUSE_S)
    return CLOCK.monotonic_s() - began_s


def asked(question: str = QUESTIONS[0], **more: Any) -> ChatRequest:
    """A question with one right answer."""
    messages = [{"role": "user", "content": question}]
    body = {"model": "trimtab", "messages": messages, "temperature": 0, "max_tokens": 24, **more}
    return ChatRequest("trimtab", messages, bool(more.get("stream")), False, 1, body)


async def begun(engine: VllmEngine, request: ChatRequest, adapter: str | None = None) -> tuple[str | None, Answer]:
    """Who answers, the adapter or else the base, and the answer."""
    with engine.admit() as place:
        by = adapter if adapter is not None and await place.hold(adapter) else None
        return by, place.begin(request)


async def text(answer: Answer | AsyncIterator[dict[str, Any]]) -> str:
    """All of it."""
    said = ""
    async for document in answer:
        for choice in document["choices"]:
            said += (choice.get("message") or choice.get("delta") or {}).get("content") or ""
    return said


async def truth(engine: VllmEngine, adapter: str | None = None) -> Truth:
    """What this adapter, or the base, says; nobody else asks meanwhile."""
    known: Truth = {}
    for question in QUESTIONS:
        by, answer = await begun(engine, asked(question), adapter)
        assert by == adapter
        known[by, question] = await text(answer)
    return known


class Users:
    """They ask without a pause, one half for the adapter that is routed to and one for the base, one half for a stream."""

    def __init__(self, engine: VllmEngine, desk: Desk, known: Truth) -> None:
        self._engine, self._desk, self._known = engine, desk, known
        self._leave = asyncio.Event()
        self.right: Counter[str | None] = Counter()
        self.wrong: list[tuple[str | None, str, str]] = []
        self.failed: list[str] = []

    async def ask(self, number: int) -> None:
        """One question of the many."""
        question, stream = QUESTIONS[number // 4 % len(QUESTIONS)], number // 2 % 2 == 0
        routing = self._desk.routing() or Routing()
        adapter = (routing.incumbent or routing.candidate) if number % 2 else None
        try:
            by, answer = await begun(self._engine, asked(question, stream=stream), adapter)
            said = await text(answer)
        except (EngineFailed, NotReady) as error:
            self.failed.append(str(error))
            await CLOCK.sleep(PAUSE_S)
            return
        if said == self._known[by, question]:
            self.right[by] += 1
        else:
            self.wrong.append((by, question, said))

    async def _go_on(self, number: int) -> None:
        while not self._leave.is_set():
            await self.ask(number)
            number += USERS + 1  # another question, the other way

    def more(self, count: int) -> Callable[[], bool]:
        """A condition: so many more right replies by each that is known."""
        before = self.right.copy()
        return lambda: all(self.right[by] >= before[by] + count for by, _ in self._known)

    async def __aenter__(self) -> Users:
        self._asking = [asyncio.create_task(self._go_on(number)) for number in range(USERS)]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._leave.set()
        await asyncio.gather(*self._asking)
