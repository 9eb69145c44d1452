"""What the tests of the engine share: who serves, and replies."""

from __future__ import annotations

from typing import Any

from prometheus_client import REGISTRY

from deploy.engine.adapters import LocalEngines
from deploy.engine.port import ChatRequest, Reply, Sampling
from deploy.rules.assignment import Routing
from feedback.clock import SystemClock

A, B, C = "a" * 64, "b" * 64, "c" * 64
HELLO = [{"role": "user", "content": "Hello"}]
SAMPLING = Sampling(max_tokens=20)


def request(**more: Any) -> ChatRequest:
    """A chat that says hello."""
    return ChatRequest("trimtab", HELLO, False, False, 1, {"model": "trimtab", "messages": HELLO, **more})


class Desk(SystemClock):
    """A source of routings that says what it is told, with a clock that stands still."""

    def __init__(self) -> None:
        self.now: Routing | None = Routing()
        self.time_s = 1000.0

    def monotonic_s(self) -> float:
        return self.time_s

    def routing(self) -> Routing | None:
        return self.now


def failures(role: str) -> float:
    """How many adapters that were wanted for this could not be loaded."""
    counted = REGISTRY.get_sample_value("trimtab_adapter_load_failures_total", {"role": role})
    assert counted is not None, "it is 0, and not missing: an alert counts on it"
    return counted


async def begin(engines: LocalEngines, adapter: str | None = None, **more: Any) -> Reply:
    """The reply to a chat that says hello, and `more`."""
    with engines.admit() as place:
        if adapter is not None:
            assert await place.hold(adapter)
        return place.begin(request(**more)).reply


async def can_hold(engines: LocalEngines, adapter: str, **options: bool) -> bool:
    with engines.admit() as place:
        return await place.hold(adapter, **options)


async def text(reply: Any) -> str:
    return "".join([piece async for piece in reply])
