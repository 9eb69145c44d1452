"""What one replica is to load and to unload next: slots are planned, never found out by overfilling them. Pure."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

OURS = "tt-"
"""What the names of our adapters on an engine begin with; others are left alone."""

ZERO = "tt-zero-"
"""What the name of an adapter that changes nothing begins with: it answers as the base where adapters are about."""


@dataclass(frozen=True)
class Plan:
    """Names to load, most wanted first, and to unload. `too_many` are wanted, and there is no slot for them."""

    load: tuple[str, ...]
    unload: tuple[str, ...]
    too_many: tuple[str, ...]


def fit(wanted: Sequence[str], slots: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Which of the adapters that are wanted, most wanted first, have a slot, and which have not.

    One slot is the base's, as an adapter that changes nothing: beside adapters, vLLM has answered for the base by one.

    >>> fit(["tt-a", "tt-b", "tt-c"], 3)
    (('tt-a', 'tt-b'), ('tt-c',))
    """
    distinct = tuple(dict.fromkeys(wanted))
    return distinct[: slots - 1], distinct[slots - 1 :]


def plan(
    wanted: Sequence[str], listed: Collection[str], proved: Collection[str], used: Collection[str], slots: int
) -> Plan:
    """`listed` is what the replica has, of which `proved` is served; `used` is what replies are by: that stays."""
    fitting, too_many = fit(wanted, slots)
    ours = {name for name in listed if name.startswith(OURS) and not name.startswith(ZERO)}
    leave = ours - set(fitting) - set(used)
    free = slots - 1 - len(ours - leave)  # what replies are by keeps its slot
    fresh = [name for name in fitting if name not in ours][: max(0, free)]
    load = tuple(name for name in fitting if name in fresh or (name in ours and name not in proved))
    return Plan(load, tuple(sorted(leave)), too_many)
