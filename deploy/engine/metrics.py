"""Metrics of the engine: which adapters are loaded, and which could not be."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import Counter, Gauge

from deploy.rules.assignment import Routing
from models.adapters import engine_name

ADAPTER_LOAD_FAILURES = Counter(
    "trimtab_adapter_load_failures_total",
    "How often an adapter could not be loaded when wanted, by its role then; one that fails is tried again each half minute.",
    ["role"],
)
ADAPTER_INFO = Gauge("trimtab_adapter_info", "1 for each adapter that is loaded, with its role.", ["adapter", "role"])

ROLES = ("incumbent", "candidate", "shadow", "by_name")
for _role in ROLES:
    ADAPTER_LOAD_FAILURES.labels(role=_role)  # it is 0, and not missing: an alert counts on it


def role_of(adapter: str, routing: Routing | None) -> str:
    """What the adapter of this name on engines is wanted for; `by_name` where no routing names it, or none is known."""
    named = routing.adapters.items() if routing is not None else ()
    return next((role for role, digest in named if engine_name(digest) == adapter), "by_name")


def show_loaded(digests: Iterable[str], routing: Routing | None) -> None:
    """These adapters are loaded, and no others."""
    ADAPTER_INFO.clear()
    for name in map(engine_name, digests):
        ADAPTER_INFO.labels(adapter=name, role=role_of(name, routing)).set(1)
