"""Real vLLM servers as the gateway's engine: what the routing names is loaded, proved and served; what they forget comes back."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from deploy.engine.port import ChatRequest
from deploy.engine.remote.answer import Patience
from deploy.engine.vllm.engine import VllmEngine
from deploy.engine.vllm.files import Files
from deploy.rules.assignment import Routing
from models.adapters import engine_name
from tests.deploy.engine.replies import Desk
from tests.engine.conftest import Trained
from tests.engine.server import SERVED_AS, SLOTS, Vllm
from tests.fakes import CLOCK, until

HELLO = [{"role": "user", "content": "Hello, where is my parcel?"}]


@asynccontextmanager
async def engine(servers: Sequence[str], trained: Trained, desk: Desk, folder: Path) -> AsyncIterator[VllmEngine]:
    """An engine on these servers that has begun to look."""
    made = VllmEngine(
        [f"{url}/v1" for url in servers],
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
    )
    await made.start()
    try:
        yield made
    finally:
        await made.stop()


async def chat(engine: VllmEngine, adapter: str | None = None, **more: Any) -> str:
    """The whole of a greedy reply."""
    body = {"model": "trimtab", "messages": HELLO, "temperature": 0, "max_tokens": 20, **more}
    request = ChatRequest("trimtab", HELLO, bool(more.get("stream")), False, 1, body)
    said = ""
    with engine.admit() as place:
        if adapter is not None:
            assert await place.hold(adapter)
        answer = place.begin(request)
    async for document in answer:
        for choice in document["choices"]:
            said += (choice.get("message") or choice.get("delta") or {}).get("content") or ""
    return said


async def test_what_the_routing_names_is_loaded_proved_and_served_and_the_base_stays_the_base(
    server: Vllm, trained: Trained, tmp_path: Path
) -> None:
    digest, desk = trained.candidate.name, Desk()
    async with engine([server.url], trained, desk, tmp_path) as served:
        await until(lambda: served.ready() is None)
        base = await chat(served)
        desk.now = Routing(incumbent=digest)
        await until(lambda: digest in served.loaded)
        assert await chat(served, digest) == await chat(served, digest, stream=True) != base
        assert await chat(served) == base
        (state,) = served.state()
        assert (state["adapters"], state["away"]) == ([engine_name(digest)], None)
        desk.now = Routing()
        await until(lambda: not served.loaded)
        assert await chat(served) == base
