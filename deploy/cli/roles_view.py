"""What the roles that run here say of themselves: ready or not, since when, and a few figures of their metrics."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import httpx
from msgspec import Struct
from prometheus_client.parser import text_string_to_metric_families

from deploy.roles.others import SILENT
from deploy.roles.presence import Presence, who_is_there
from deploy.text import ago, iso

WITHIN_S = 2.0
TURNS_LOST, JUDGE_UP, JUDGE_ASKED = "trimtab_turns_lost_total", "trimtab_judge_up", "trimtab_judge_seconds_count"
SPOOL_BYTES, SPOOL_LIMIT = "trimtab_spool_bytes", "trimtab_spool_limit_bytes"
LOOKED_AT = {TURNS_LOST, JUDGE_UP, JUDGE_ASKED, SPOOL_BYTES, SPOOL_LIMIT}


class Seen(Struct, frozen=True):
    """A role as it is now. `waits`: what for, None where it is ready; `figures`: its metrics, empty where it tells none."""

    presence: Presence
    alive: bool
    waits: str | None
    figures: Mapping[str, float]


def look(root: Path) -> list[Seen]:
    """Every role that is played here, and those that died and were not started again."""
    alive, dead = who_is_there(root)
    with ThreadPoolExecutor(max(1, len(alive))) as pool, httpx.Client(timeout=WITHIN_S, trust_env=False) as client:
        asked = list(pool.map(partial(_asked, client), alive))
    return asked + [Seen(presence, False, "it died", {}) for presence in dead]


def as_document(seen: Iterable[Seen], now_us: int) -> list[dict[str, Any]]:
    """For a program."""
    return [
        {
            "role": one.presence.role,
            "seat": one.presence.seat,
            "process": one.presence.pid,
            "host": one.presence.host,
            "alive": one.alive,
            "ready": one.alive and one.waits is None,
            "waits": one.waits,
            "started_at": iso(one.presence.started_at_us),
            "since_s": max(0.0, (now_us - one.presence.started_at_us) / 1e6),
            "admin": one.presence.admin,
            "chats": one.presence.chats,
        }
        for one in seen
    ]


def line(role: Mapping[str, Any]) -> str:
    """One of these, for a person."""
    name = role["role"] if role["seat"] == 1 else f"{role['role']} {role['seat']}"
    since = f"process {role['process']}, started {ago(role['since_s'])}"
    if not role["alive"]:
        return f"{name} DIED ({since}): start it again; its last lines of log say why"
    return f"{name} {'ready' if role['ready'] else 'NOT READY'} ({since})" + (
        f": {role['waits']}" if role["waits"] else ""
    )


def told(seen: Iterable[Seen], figure: str) -> float | None:
    """The sum of a figure over the roles that are alive; None where none tells it."""
    found = [one.figures[figure] for one in seen if figure in one.figures]
    return sum(found) if found else None


def _asked(client: httpx.Client, presence: Presence) -> Seen:
    if presence.admin is None or not presence.is_here:
        return Seen(presence, True, f"it can be asked on {presence.host} only", {})
    try:
        ready = client.get(f"{presence.admin}/readyz")
        waits = None if ready.status_code == 200 else str(ready.json()["reason"])
        return Seen(presence, True, waits, _figures(client.get(f"{presence.admin}/metrics").text))
    except (httpx.HTTPError, ValueError, KeyError, TypeError):
        return Seen(presence, True, SILENT, {})


def _figures(text: str) -> dict[str, float]:
    families = text_string_to_metric_families(text)
    return {sample.name: sample.value for family in families for sample in family.samples if sample.name in LOOKED_AT}
