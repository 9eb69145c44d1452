"""Adapters that can't be served: told once for each reason and each use, tried again after a while, and counted each time."""

from __future__ import annotations

from typing import Any, NamedTuple

import structlog

from deploy.engine import metrics
from deploy.rules.assignment import Routing

RETRY_S = 30.0
"""Before an adapter that was refused is tried again."""

log = structlog.get_logger()


class Refusal(NamedTuple):
    """Why an adapter is not served, when that was counted last (monotonic seconds), and what it was wanted for then."""

    why: str
    at_s: float
    role: str


def due(before: Refusal | None, now_s: float) -> bool:
    """Whether it may be tried (again)."""
    return before is None or now_s - before.at_s >= RETRY_S


def refuse(
    before: Refusal | None, adapter: str, why: str, routing: Routing | None, now_s: float, **told: Any
) -> Refusal:
    """The adapter of this name on engines is refused now; `told` is what the log says of it, where this is news."""
    role = metrics.role_of(adapter, routing)
    if before is None or (before.why, before.role) != (why, role):
        log.error("adapter_not_loaded", adapter=adapter, role=role, **told)
    elif not due(before, now_s):
        return before
    metrics.ADAPTER_LOAD_FAILURES.labels(role=role).inc()  # as long as it fails: who is paged is paged until it loads
    return Refusal(why, now_s, role)
